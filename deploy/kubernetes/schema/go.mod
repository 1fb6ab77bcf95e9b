// The OpenAPI documents that Kubernetes publishes, which deploy/kubernetes_test.go checks the manifests with. They come
// with kubectl-validate; nothing of it is compiled, and the module is one of its own so that hark's own does not depend
// on it. Do not tidy: no package is imported.
module github.com/hark-jobs/hark/deploy/kubernetes/schema

go 1.26.0

require sigs.k8s.io/kubectl-validate v0.0.4

// Package rules has the tests of rules that hold for the whole module: which package may import which, and which words
// comments and docs avoid. CONTRIBUTING.md says why.
package rules

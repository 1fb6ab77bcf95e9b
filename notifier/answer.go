package notifier

import "github.com/gin-gonic/gin"

// answer is the response of a handler. The zero value means that the handler has written the response itself.
type answer struct {
	status int
	body   any // written as JSON; nil means none
}

// handler handles a request. An error that it returns becomes a problem.
type handler func(*gin.Context) (answer, error)

// handle adapts a handler to Gin. It releases what [Notifier.list] has acquired after the response is written.
func (n *Notifier) handle(h handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		defer func() {
			if release, ok := c.Get(releaseKey); ok {
				release.(func())()
			}
		}()
		a, err := h(c)
		switch {
		case err != nil:
			n.fail(c, err)
		case a.body != nil:
			c.JSON(a.status, a.body)
		case a.status != 0:
			c.Status(a.status)
		}
	}
}

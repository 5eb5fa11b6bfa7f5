package imds

import (
	"net/http"
	"strconv"
	"time"

	"github.com/purser-agent/purser/pkg/frontend"
)

// Header names are in net/http's canonical form, so that maps can be indexed.
const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	lifeHeader  = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
)

// Values that many answers share; net/http copies them.
var (
	serverName  = []string{"EC2ws"} // old probes look for "EC2" in it
	textPlain   = []string{"text/plain"}
	textHTML    = []string{"text/html"}
	octetStream = []string{"application/octet-stream"}
	noRanges    = []string{"none"}
	allowRead   = []string{"GET, HEAD"}
	allowToken  = []string{"OPTIONS, PUT"}
)

var pages = map[int][]byte{
	http.StatusBadRequest: page(http.StatusBadRequest),
	http.StatusForbidden:  page(http.StatusForbidden),
	http.StatusNotFound:   page(http.StatusNotFound),
}

// page lays out an error page as the real service does: the one for 404 was
// recorded from it, tabs and all.
func page(status int) []byte {
	title := strconv.Itoa(status) + " - " + http.StatusText(status)
	return []byte(`<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
` + "\t\t" + ` "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>` + title + `</title>
 </head>
 <body>
  <h1>` + title + `</h1>
 </body>
</html>
`)
}

// An exchange is one request and what becomes of it.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	view    frontend.View
	session []string // what is left of a valid session token, in every answer to it
	outcome frontend.Outcome
}

// send writes the answer. Only answers of content have a Last-Modified and say that
// ranges are not served.
func (e *exchange) send(status int, contentType []string, body []byte, modified []string) {
	h := e.w.Header()
	h["Server"] = serverName
	h["Content-Type"] = contentType
	if e.session != nil {
		h[lifeHeader] = e.session
	}
	if modified != nil {
		h["Accept-Ranges"] = noRanges
		h["Last-Modified"] = modified
	}
	e.outcome.Status = status
	frontend.Write(e.w, e.r, status, body)
}

// text answers 200 with a listing, a value or a document, which is plain text too.
func (e *exchange) text(body []byte, modified []string, decision frontend.Decision) {
	e.outcome.Decision = decision
	e.send(http.StatusOK, textPlain, body, modified)
}

// page answers with one of the error pages.
func (e *exchange) page(status int, decision frontend.Decision, reason string) {
	e.outcome.Decision, e.outcome.Reason = decision, reason
	e.send(status, textHTML, pages[status], nil)
}

func (e *exchange) notFound(reason string) {
	e.page(http.StatusNotFound, frontend.NotFound, reason)
}

func (e *exchange) unauthorized(reason string) {
	e.empty(http.StatusUnauthorized, nil, frontend.Unauthorized, reason)
}

// empty answers without a body, as the real service does to a missing token or a
// wrong method.
func (e *exchange) empty(status int, allow []string, decision frontend.Decision, reason string) {
	if allow != nil {
		e.w.Header()["Allow"] = allow
	}
	e.outcome.Decision, e.outcome.Reason = decision, reason
	e.send(status, textPlain, nil, nil)
}

func lastModified(t time.Time) []string { return []string{t.UTC().Format(http.TimeFormat)} }

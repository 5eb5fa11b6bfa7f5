package frontend

import (
	"net/http"
	"strconv"
	"sync"
)

// maxPooled is the largest buffer that goes back to the pool, in bytes. Credential
// documents have one or two thousand.
const maxPooled = 16 << 10

var buffers = sync.Pool{New: func() any { return new(Buffer) }}

// A Buffer is pooled memory in which a dialect renders one answer.
type Buffer struct{ Text []byte }

// NewBuffer returns an empty buffer. Whoever takes one calls Free.
func NewBuffer() *Buffer { return buffers.Get().(*Buffer) }

// Free gives the buffer back; its text must not be used any more.
func (b *Buffer) Free() {
	if cap(b.Text) > maxPooled {
		return
	}
	b.Text = b.Text[:0]
	buffers.Put(b)
}

// Write sends a whole answer with the header fields set so far and its length: the
// header and, except to HEAD, the body, in one piece as long as it fits the server's
// buffer of 4 KiB. The values in the header may be shared between answers, and body
// may be used again: net/http copies both.
func Write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if r.Method != http.MethodHead && len(body) > 0 {
		// The only error is a client that is gone, and there is nobody to tell.
		_, _ = w.Write(body)
	}
}

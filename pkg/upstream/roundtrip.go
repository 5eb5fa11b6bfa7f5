package upstream

import (
	"bytes"
	"context"
	"net/http"
)

// RoundTrip is Do for a library that sends its requests through an http.Client, with
// every limit of the Client. The answer is there as a whole; AnswerOf returns it.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	answer, err := c.Do(req)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	return &http.Response{
		Status:        http.StatusText(answer.Status),
		StatusCode:    answer.Status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        answer.Header,
		Body:          &answerBody{bytes.NewReader(answer.Body), answer},
		ContentLength: int64(len(answer.Body)),
		Request:       req,
	}, nil
}

// AnswerOf returns the answer that RoundTrip made a response of, nil for a response
// of anything else.
func AnswerOf(res *http.Response) *Answer {
	if body, ok := res.Body.(*answerBody); ok {
		return body.answer
	}
	return nil
}

type answerBody struct {
	*bytes.Reader
	answer *Answer
}

// Close implements io.Closer.
func (*answerBody) Close() error { return nil }

type socketKey struct{}

// WithSocket returns a context whose requests go to a Unix socket, through no proxy.
// The host of their URL is then a mere name.
func WithSocket(ctx context.Context, path string) context.Context {
	return context.WithValue(ctx, socketKey{}, path)
}

// socketOf returns the socket of WithSocket, or nothing.
func socketOf(ctx context.Context) string {
	path, _ := ctx.Value(socketKey{}).(string)
	return path
}

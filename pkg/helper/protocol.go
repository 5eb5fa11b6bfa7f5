package helper

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// Both ends are the same binary, so a message of another version is a bug. Each is one
// packet, and the descriptors for a program's standard output and standard error come
// with the request that starts it.
const (
	version    = 1
	maxMessage = 128 << 10 // bytes; the kernel keeps a packet in one piece
	mostAtOnce = 16        // programs
)

// A request starts a program or, without arguments, ends the one of this ID.
type request struct {
	Version int           `json:"version"`
	ID      uint64        `json:"id"`
	Args    raw           `json:"args,omitempty"`
	Env     raw           `json:"env,omitempty"`
	Timeout time.Duration `json:"timeout,omitempty"`
}

// A raw list is texts that need not be UTF-8, as which JSON would change them: a password
// may be in any encoding.
type raw []string

// MarshalJSON writes them in base64.
func (r raw) MarshalJSON() ([]byte, error) {
	all := make([][]byte, 0, len(r))
	for _, text := range r {
		all = append(all, []byte(text))
	}
	return json.Marshal(all)
}

// UnmarshalJSON reads that.
func (r *raw) UnmarshalJSON(b []byte) error {
	var all [][]byte
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*r = make(raw, 0, len(all))
	for _, text := range all {
		*r = append(*r, string(text))
	}
	return nil
}

// An answer tells how a program ended, or why it was not started.
type answer struct {
	Version int                `json:"version"`
	ID      uint64             `json:"id"`
	Fault   syscall.Errno      `json:"fault,omitempty"`
	Status  syscall.WaitStatus `json:"status,omitempty"`
	Late    bool               `json:"late,omitempty"` // it was killed at its time-out
}

func parseRequest(packet []byte) (r request, err error) {
	if err := parse(packet, &r, &r.Version); err != nil {
		return request{}, err
	}
	if len(r.Args) == 0 {
		return r, nil
	}
	if !strings.HasPrefix(r.Args[0], "/") || r.Timeout <= 0 {
		return request{}, fmt.Errorf("a program without an absolute path or a time-out")
	}
	return r, nil
}

func parseAnswer(packet []byte) (a answer, err error) {
	if err := parse(packet, &a, &a.Version); err != nil {
		return answer{}, err
	}
	return a, nil
}

// parse reads one message. Its errors do not quote it.
func parse(packet []byte, into any, found *int) error {
	decoder := json.NewDecoder(bytes.NewReader(packet))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil || decoder.More() {
		return fmt.Errorf("a message of %d bytes is none of ours", len(packet))
	}
	if *found != version {
		return fmt.Errorf("a message of version %d instead of %d", *found, version)
	}
	return nil
}

//go:build !amd64 && !arm64

package sandbox

import seccomp "github.com/elastic/go-seccomp-bpf"

// Elsewhere calls are refused without being counted.
const refuse = seccomp.ActionErrno

func countRefusals() error { return nil }

// Refused is always empty here.
func (s *Sandbox) Refused() []Call { return nil }

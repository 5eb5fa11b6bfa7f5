package main

import (
	"net/http/httptest"
	"testing"

	"github.com/purser-agent/purser/pkg/frontend/imds"
	"github.com/purser-agent/purser/pkg/server"
)

func TestListenersKnowTheNamesOfTheirOwnDialects(t *testing.T) {
	c := loadText(t, `listen:
  main: {address: "127.0.0.1:0", dialects: aws}
  pods: {address: "127.0.0.1:0", dialects: ecs, hosts: [creds.example.com]}
`)
	listeners, err := server.Listen(t.Context(), specs(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{keys: &localKeys{sessionTokens: imds.NewTokenKey()}, listeners: listeners}
	for _, l := range listeners {
		t.Cleanup(func() { _ = l.Close() })
	}
	fronts, err := a.newFronts(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host       string
		main, pods bool
	}{
		{"169.254.169.254", true, true},
		{"169.254.170.2", true, true},
		{"169.254.170.23", true, true},
		{"localhost", true, true},
		{"[fd00:ec2::254]", true, false},
		{"[fd00:ec2::23]", false, true},
		{"creds.example.com", false, true},
		{"evil.example.com", false, false},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Host = test.host
		for name, want := range map[string]bool{"main": test.main, "pods": test.pods} {
			if why := fronts[name].guard.Check(r); (why == "") != want {
				t.Errorf("%s, Host %s: known is %v, want %v (%s)", name, test.host, why == "", want, why)
			}
		}
	}
}

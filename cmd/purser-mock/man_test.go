package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestTheManualPageIsTheSameBytesForTheSameVersion(t *testing.T) {
	page := func() string {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), []string{"man"}, &stdout, &stderr); code != 0 {
			t.Fatalf("man ends with %d: %s", code, &stderr)
		}
		return stdout.String()
	}
	first := page()
	if !strings.Contains(first, `.TH "PURSER-MOCK" "1"`) || !strings.Contains(first, "While it runs it takes orders") {
		t.Errorf("the page is %s", first)
	}
	if page() != first || strings.Contains(first, "Auto generated") {
		t.Error("the page is another each time")
	}
}

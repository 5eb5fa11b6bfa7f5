package upstream

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	want := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, text := range []string{
		"2026-11-01T12:00:00Z", "2026-11-01T12:00:00.000Z", "2026-11-01T12:00:00.999999Z", "2026-11-01T14:00:00+02:00",
		"2026-11-01T14:00:00.5+02:00", "2026-11-01T12:00:00+0000", "2026-11-01T06:30:00-0530", "2026-11-01T12:00:00.25+0000",
	} {
		if got, err := ParseTime(text); err != nil || !got.Equal(want) || got.Location() != time.UTC || got.Nanosecond() != 0 {
			t.Errorf("%s: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "1793534400", "2026-11-01", "2026-11-01T12:00:00", "2026-13-01T12:00:00Z", "2026-11-01 12:00:00Z", "0"} {
		if got, err := ParseTime(text); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

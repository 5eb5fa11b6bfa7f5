package helper

import "testing"

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":7,"args":["L2Jpbi90cnVl"],"env":["QT1i"],"timeout":1}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, packet []byte) {
		r, err := parseRequest(packet)
		if err == nil && (r.Version != version || len(r.Args) > 0 && (r.Args[0][0] != '/' || r.Timeout <= 0)) {
			t.Errorf("accepted %+v", r)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"version":1,"id":7,"fault":2}`))
	f.Add([]byte(`{"version":1,"id":7,"status":256}{}`))
	f.Fuzz(func(t *testing.T, packet []byte) {
		if a, err := parseAnswer(packet); err == nil && a.Version != version {
			t.Errorf("accepted %+v", a)
		}
	})
}

func TestStartTime(t *testing.T) {
	if got, err := startTime("7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 2 3"); err != nil || got != 4711 {
		t.Errorf("got %d, %v", got, err)
	}
	for _, text := range []string{"", ")", "7 (a) S 1"} {
		if _, err := startTime(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

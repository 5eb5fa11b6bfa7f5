package mock

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// ControlPath is where a stand-in takes orders while it runs:
//
//	GET /_mock/faults      the active and coming faults, a JSON list of texts
//	PUT /_mock/faults      replaces them all; POST adds; DELETE ends them
//	GET /_mock/requests    what was asked, see Requests; DELETE begins anew
//
// Kinds of stand-ins may have more below it.
const ControlPath = "/_mock/"

// maxOrder bounds the body of an order, in bytes.
const maxOrder = 1 << 20

func (c *Control) serveControl(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + strings.TrimPrefix(r.URL.Path, ControlPath) {
	case "GET faults":
		writeJSON(w, c.Faults())
	case "PUT faults", "POST faults":
		var faults []Fault
		if !readJSON(w, r, &faults) {
			return
		}
		if r.Method == http.MethodPut {
			c.SetFaults(faults...)
		} else {
			c.AddFaults(faults...)
		}
		writeJSON(w, c.Faults())
	case "DELETE faults":
		c.SetFaults()
		w.WriteHeader(http.StatusNoContent)
	case "GET requests":
		writeJSON(w, c.Requests())
	case "DELETE requests":
		c.ResetRequests()
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "there is GET, PUT, POST and DELETE "+ControlPath+"faults, and GET and DELETE "+ControlPath+"requests", http.StatusNotFound)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // the client may be gone
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

// ReadScript reads a schedule of faults, YAML or JSON: a list of entries with at
// (time after the start) and fault (text form), in which for=TIME ends it:
//
//   - {at: 30s, fault: "status=503,for=60s"}
func ReadScript(r io.Reader) ([]Step, error) {
	var entries []struct {
		At    time.Duration `yaml:"at"`
		For   time.Duration `yaml:"for"`
		Fault *Fault        `yaml:"fault"`
	}
	decoder := yaml.NewDecoder(io.LimitReader(r, maxOrder))
	decoder.KnownFields(true)
	if err := decoder.Decode(&entries); err != nil {
		return nil, err
	}
	if len(entries) > maxFaults {
		return nil, fmt.Errorf("%d entries, at most %d are allowed", len(entries), maxFaults)
	}
	steps := make([]Step, 0, len(entries))
	for i, entry := range entries {
		if entry.Fault == nil {
			return nil, fmt.Errorf("entry %d has no fault", i+1)
		}
		if entry.At < 0 || entry.For < 0 {
			return nil, fmt.Errorf("entry %d has a negative time", i+1)
		}
		if entry.For > 0 {
			entry.Fault.For = entry.For
		}
		steps = append(steps, Step{At: entry.At, Fault: *entry.Fault})
	}
	return steps, nil
}

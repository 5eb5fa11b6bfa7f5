package caller

import "strings"

// unitTypes are the kinds of systemd units (systemd.unit(5)).
var unitTypes = map[string]bool{
	"service": true, "socket": true, "target": true, "device": true, "mount": true, "automount": true,
	"swap": true, "timer": true, "path": true, "slice": true, "scope": true,
}

// maxUnitName is systemd's limit for a unit's name, in bytes.
const maxUnitName = 255

// unitOf returns the unit to which a cgroup belongs, given its path from the
// cgroup of systemd itself, or nothing if it belongs to none. As sd_pid_get_unit(3)
// has it, that is the first component that is not a slice. Then it is settled: what
// lies below is in the hands of that unit and may bear any name.
func unitOf(path string) (unit string, settled bool) {
	for component := range strings.SplitSeq(path, "/") {
		if component == "" {
			continue
		}
		// systemd escapes a name that the kernel could take for one of its own files.
		name := strings.TrimPrefix(component, "_")
		kind := unitType(name)
		if kind == "slice" && !strings.Contains(name, "@") { // slices have no instances
			continue
		}
		if kind == "" || kind == "slice" {
			return "", true
		}
		return name, true
	}
	return "", false
}

// unitType returns the kind of unit that a name stands for, or nothing if no unit
// other than a template can have that name.
func unitType(name string) string {
	dot := strings.LastIndexByte(name, '.')
	if dot <= 0 || len(name) > maxUnitName || !unitTypes[name[dot+1:]] {
		return ""
	}
	prefix := name[:dot]
	for _, c := range []byte(prefix) {
		if !isUnitCharacter(c) {
			return ""
		}
	}
	if at := strings.IndexByte(prefix, '@'); at == 0 || at == len(prefix)-1 && at >= 0 {
		return ""
	}
	return name[dot+1:]
}

func isUnitCharacter(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(`:-_.\@`, c) >= 0
}

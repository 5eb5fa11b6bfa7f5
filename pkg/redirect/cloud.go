package redirect

import (
	"os"
	"path/filepath"
	"strings"
)

// signs are what the firmware of a cloud's machines says of itself, by the files of
// /sys/class/dmi/id.
var signs = []struct{ file, text, cloud string }{
	{"sys_vendor", "Amazon EC2", "Amazon EC2"},
	{"bios_vendor", "Amazon EC2", "Amazon EC2"},
	{"bios_version", "amazon", "Amazon EC2"}, // the older ones, on Xen
	{"product_name", "Google Compute Engine", "Google Compute Engine"},
	{"chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77", "Azure"},
}

// Cloud names the cloud that this host is a machine of, if its firmware says so; empty
// otherwise.
func Cloud() string { return cloudOf("/sys/class/dmi/id") }

func cloudOf(folder string) string {
	for _, s := range signs {
		text, err := os.ReadFile(filepath.Join(folder, s.file))
		if err == nil && strings.Contains(string(text), s.text) {
			return s.cloud
		}
	}
	return ""
}

package helper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// children lists the processes whose parent this one is, dead ones among them.
func children() (pids []int, err error) {
	threads, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil, err
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread ended
		}
		if err != nil {
			return nil, err
		}
		for field := range strings.FieldsSeq(string(text)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				return nil, fmt.Errorf("%s: not a list of processes", path)
			}
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// began is when a process was started, in the kernel's ticks since boot.
func began(pid int) (uint64, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return startTime(string(text))
}

// startTime finds the 22nd field of /proc/PID/stat (proc_pid_stat(5)). The second one,
// a name in parentheses, may itself hold anything.
func startTime(stat string) (uint64, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return 0, errors.New("not the state of a process")
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

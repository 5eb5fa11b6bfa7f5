package config

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/v2"
)

// Options say what to load.
type Options struct {
	// Paths are files and folders, later ones winning; a folder means all its *.yaml
	// and *.yml in alphabetical order. If empty: DefaultFile, then DefaultFolder.
	Paths []string
	// Environ is the environment in the form of os.Environ.
	Environ []string
	// Kinds maps each kind of upstream to a function that returns a pointer to a new
	// struct of its options, filled with their defaults.
	Kinds map[string]func() any
	// Dialects are the dialects that a listener can speak.
	Dialects []string
	// WithoutUpstreams leaves upstreams out: nothing that is wrong with them is an error,
	// and ${CREDENTIALS_DIRECTORY} need not stand for anything.
	WithoutUpstreams bool
	// Check, if set, is asked about a configuration that nothing else is wrong with.
	// Each of the errors that it joins begins with a key and a colon, and shows no
	// secret.
	Check func(*Config) error
}

// What is loaded if no path is given. One of both may be missing.
const (
	DefaultFile   = "/etc/purser/purser.yaml"
	DefaultFolder = "/etc/purser/conf.d"
)

// Load reads, merges, decodes and checks a configuration. An error is an *Error
// that tells everything that is wrong; if a file could not be read at all, no more
// than the files tell by themselves.
func Load(options Options) (*Config, error) { return load(options, DefaultFile, DefaultFolder) }

func load(options Options, defaultFile, defaultFolder string) (*Config, error) {
	l := &loader{options: options, origins: origins{}, given: map[string]bool{}}
	l.credentials, l.inService = variable(options.Environ, "CREDENTIALS_DIRECTORY")

	if len(options.Paths) > 0 {
		l.find(options.Paths)
	} else {
		l.findDefaults(defaultFile, defaultFolder)
	}
	files, ok := l.files()
	if !ok {
		return nil, l.problems.err() // whatever else was said would be a consequence
	}
	tree := l.environment(merge(defaultListeners(), l.alppaca(files), files))
	if options.WithoutUpstreams {
		delete(tree, "upstreams")
	}

	c := defaults()
	l.decode(nil, tree, c)
	c.origins = l.origins
	c.Files = l.names
	c.Notices = l.notices.lines()
	if l.newForm != nil {
		c.Alppaca = l.newForm.Error()
	}
	if c.Group == "" {
		c.Group = c.User
	}
	if _, set := c.Origin("connections", "per_user"); !set && c.Connections.Most > 0 {
		c.Connections.PerUser = min(c.Connections.PerUser, c.Connections.Most)
	}
	if c.Group == "nobody" {
		c.GroupFallback = "nogroup"
	}
	l.check(c)
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// A loader is the state of one Load.
type loader struct {
	options     Options
	credentials string // what ${CREDENTIALS_DIRECTORY} stands for
	inService   bool   // whether it stands for something
	names       []string
	origins     origins
	given       map[string]bool // by path.id, whether any file has more than null there
	problems    problems
	spoiled     spoiled
	notices     problems
	newForm     *Problem // of alppaca's keys, one of notices
}

// variable returns the value of a variable of the environment. Of two the last
// counts, as for exec.
func variable(environ []string, name string) (value string, ok bool) {
	for _, entry := range slices.Backward(environ) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value, value != ""
		}
	}
	return "", false
}

// find collects the files that the administrator named.
func (l *loader) find(paths []string) {
	for _, name := range paths {
		info, err := os.Stat(name)
		if err != nil || !info.IsDir() {
			l.names = append(l.names, name) // reading it will tell what is wrong
			continue
		}
		found, err := folder(name)
		switch {
		case err != nil:
			l.problem(Origin{File: name}, nil, "%s", cause(err))
		case len(found) == 0:
			l.problem(Origin{File: name}, nil, "the folder holds no *.yaml or *.yml")
		}
		l.names = append(l.names, found...)
	}
}

// findDefaults collects the files that are read if none is named.
func (l *loader) findDefaults(file, conf string) {
	if _, err := os.Lstat(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
		l.names = append(l.names, file)
	}
	found, err := folder(conf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.problem(Origin{File: conf}, nil, "%s", cause(err))
	}
	l.names = append(l.names, found...)
	if len(l.names) == 0 && len(l.problems) == 0 {
		l.problem(Origin{File: file}, nil,
			"there is no configuration here; write one, or name a file or folder with --config (such as /etc/alppaca)")
	}
}

// files merges all files in order. It is not ok if one of them is missing in the
// result.
func (l *loader) files() (tree map[string]any, ok bool) {
	ok = len(l.problems) == 0
	merged := koanf.New(separator)
	for _, name := range l.names {
		if err := merged.Load(&file{l, name}, nil); err != nil {
			ok = false
		}
	}
	return merged.Raw(), ok
}

// merge puts layers on top of each other: sections merge, any other value of the
// later layer wins. A null stays, for decoding to take as a key that is not there.
func merge(layers ...map[string]any) map[string]any {
	merged := koanf.New(separator)
	for _, layer := range layers {
		// A layer in memory cannot fail to load.
		_ = merged.Load(confmap.Provider(layer, ""), nil)
	}
	return merged.Raw()
}

package caller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// ErrUnknownAccount is a user or group that neither the files nor the directory
// has. A directory that did not answer is another error.
var ErrUnknownAccount = errors.New("no such account")

// Accounts looks up users and groups: in /etc/passwd and /etc/group first, then
// with getent(1) in whatever directory nsswitch.conf(5) names. Each call reads the
// files anew and may wait two seconds for the directory, for a group's members ten,
// so it is for start and periodic refresh, never for a request. A name of digits
// only is an id.
//
// The zero value is ready; it is safe for concurrent use.
type Accounts struct {
	// Run, if set, runs getent, where a child of this process cannot be had: args are
	// its path and arguments, most bounds in bytes what it prints. An error is one to
	// start it, or that it was ended.
	Run func(ctx context.Context, args []string, most int) (printed []byte, exit int, err error)

	dir    string        // where passwd and group are; /etc if empty
	getent string        // the command; the system's if empty
	wait   time.Duration // for one answer; getentWait if zero
}

// UID returns the uid of a user. A number is one whether or not it has an account.
func (a Accounts) UID(ctx context.Context, name string) (uint32, error) {
	if uid, ok := parseID(name); ok {
		return uid, nil
	}
	entry, err := a.passwdEntry(ctx, name)
	return entry.uid, err
}

// Name returns the name of a user, for display.
func (a Accounts) Name(ctx context.Context, uid uint32) (string, error) {
	entry, err := a.passwdEntry(ctx, strconv.FormatUint(uint64(uid), 10))
	return entry.name, err
}

// GID returns the gid of a group. A number is one whether or not it has a group.
func (a Accounts) GID(ctx context.Context, name string) (uint32, error) {
	if gid, ok := parseID(name); ok {
		return gid, nil
	}
	entry, err := a.groupEntry(ctx, name)
	return entry.gid, err
}

// Groups returns the gids of the groups in which /etc/group lists a user, sorted. A
// number without an account is in none.
func (a Accounts) Groups(ctx context.Context, user string) ([]uint32, error) {
	entry, err := a.passwdEntry(ctx, user)
	if _, isID := parseID(user); isID && errors.Is(err, ErrUnknownAccount) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	groups, err := a.groups()
	if err != nil {
		return nil, err
	}
	var gids []uint32
	for _, g := range groups {
		if slices.Contains(g.members, entry.name) {
			gids = append(gids, g.gid)
		}
	}
	slices.Sort(gids)
	return slices.Compact(gids), nil
}

// Members returns the uids of a group's members, sorted: the users that the group
// lists, those among them that do not exist left out, and the users in /etc/passwd
// whose primary group it is. Users that only a directory has are members by being
// listed alone: no directory can be asked for all users of a primary group.
func (a Accounts) Members(ctx context.Context, group string) ([]uint32, error) {
	entry, err := a.groupEntry(ctx, group)
	if gid, ok := parseID(group); ok && errors.Is(err, ErrUnknownAccount) {
		entry, err = groupEntry{gid: gid}, nil
	}
	if err != nil {
		return nil, err
	}
	users, err := a.users()
	if err != nil {
		return nil, err
	}
	listed := make(map[string]bool, len(entry.members))
	for _, name := range entry.members {
		listed[name] = true
	}
	var members []uint32
	for _, user := range users {
		if listed[user.name] || user.gid == entry.gid {
			members = append(members, user.uid)
		}
		delete(listed, user.name)
	}
	elsewhere, err := a.directoryUsers(ctx, listed)
	if err != nil {
		return nil, fmt.Errorf("members of group %q: %w", group, err)
	}
	members = append(members, elsewhere...)
	slices.Sort(members)
	return slices.Compact(members), nil
}

// directoryUsers returns the uids of those of the named users whom the directory
// knows.
func (a Accounts) directoryUsers(ctx context.Context, names map[string]bool) ([]uint32, error) {
	ctx, cancel := context.WithTimeout(ctx, membersWait)
	defer cancel()
	var uids []uint32
	for some := range slices.Chunk(slices.Sorted(maps.Keys(names)), namesAtOnce) {
		answer, err := a.ask(ctx, "passwd", some...)
		if err != nil && !errors.Is(err, ErrUnknownAccount) {
			return nil, err
		}
		for _, user := range parsePasswd(answer) {
			uids = append(uids, user.uid)
		}
	}
	return uids, nil
}

func (a Accounts) passwdEntry(ctx context.Context, name string) (passwdEntry, error) {
	users, err := a.users()
	if err != nil {
		return passwdEntry{}, err
	}
	uid, isID := parseID(name)
	for _, entry := range users {
		if isID && entry.uid == uid || !isID && entry.name == name {
			return entry, nil
		}
	}
	answer, err := a.ask(ctx, "passwd", name)
	if err != nil {
		return passwdEntry{}, fmt.Errorf("user %q: %w", name, err)
	}
	// A directory may have a longer or differently written name for who was asked for.
	found := parsePasswd(answer)
	if len(found) == 0 || isID && found[0].uid != uid {
		return passwdEntry{}, fmt.Errorf("user %q: %w", name, ErrUnknownAccount)
	}
	return found[0], nil
}

func (a Accounts) groupEntry(ctx context.Context, name string) (groupEntry, error) {
	groups, err := a.groups()
	if err != nil {
		return groupEntry{}, err
	}
	gid, isID := parseID(name)
	for _, entry := range groups {
		if isID && entry.gid == gid || !isID && entry.name == name {
			return entry, nil
		}
	}
	answer, err := a.ask(ctx, "group", name)
	if err != nil {
		return groupEntry{}, fmt.Errorf("group %q: %w", name, err)
	}
	found := parseGroup(answer)
	if len(found) == 0 || isID && found[0].gid != gid {
		return groupEntry{}, fmt.Errorf("group %q: %w", name, ErrUnknownAccount)
	}
	return found[0], nil
}

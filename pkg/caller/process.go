package caller

import "strconv"

// Process identifies a local process whose uid the kernel vouches for (SO_PEERCRED
// of a Unix socket). The unit is that of whatever has the pid now, so it is for
// deciding what to show and not what to hand out.
func (r *Resolver) Process(uid uint32, pid int32) Identity {
	if r.overflow.hides(uid) {
		return Identity{}
	}
	identity := Identity{UID: uid, Known: true}
	if r.units == nil {
		return identity
	}
	if cgroup, err := cgroupOf(strconv.Itoa(int(pid))); err == nil {
		identity.Unit, _ = r.cgroups.unit(cgroup)
	}
	return identity
}

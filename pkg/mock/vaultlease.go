package mock

import (
	"cmp"
	"crypto/rand"
	"maps"
	"net/http"
	"time"
)

// A vaultLease is what the server remembers of an answer.
type vaultLease struct {
	id        string
	token     string // accessor of the one that asked
	key       string // access key ID of an IAM user; empty for others
	renewable bool
	made      time.Time
	renewed   time.Time
	ends      time.Time
	ttl       time.Duration
}

// lease gives an answer a lease.
func (v *Vault) lease(c *vaultCall, env *envelope, lease *vaultLease) {
	lease.id = c.namespace + c.path + "/" + rand.Text()[:24]
	lease.token, lease.made = c.token.accessor, c.now
	env.LeaseID = lease.id
	if len(v.leases) >= maxVault {
		maps.DeleteFunc(v.leases, func(_ string, old *vaultLease) bool { return !c.now.Before(old.ends) })
	}
	if len(v.leases) >= maxVault {
		clear(v.leases)
	}
	v.leases[lease.id] = lease
	v.record.LeasesMade++
}

// endLease forgets a lease; the keys of an IAM user end with it.
func (v *Vault) endLease(lease *vaultLease) {
	delete(v.leases, lease.id)
	if lease.key != "" {
		v.o.Keys.Revoke(lease.key)
	}
	v.record.LeasesEnded++
}

// leaseCall answers sys/leases/lookup, renew and revoke.
func (v *Vault) leaseCall(c *vaultCall, what string) (*envelope, *vaultError) {
	if refusal := c.only(canUpdate); refusal != nil {
		return nil, refusal
	}
	id := c.text("lease_id")
	lease, ok := v.leases[id]
	if ok && !c.now.Before(lease.ends) {
		v.endLease(lease)
		ok = false
	}
	switch {
	case id == "":
		return nil, refuse(http.StatusBadRequest, "lease_id must be specified")
	case what == "revoke": // also one that is not there
		if ok {
			v.endLease(lease)
			v.record.LeasesRevoked++
		}
		return nil, nil
	case what == "lookup" && !ok:
		return nil, refuse(http.StatusBadRequest, "invalid lease")
	case !ok:
		return nil, refuse(http.StatusBadRequest, "lease not found")
	case what == "lookup":
		data := map[string]any{
			"id": lease.id, "issue_time": stamp(lease.made), "expire_time": stamp(lease.ends),
			"last_renewal": nil, "renewable": lease.renewable, "ttl": int64(lease.ends.Sub(c.now) / time.Second),
		}
		if !lease.renewed.IsZero() {
			data["last_renewal"] = stamp(lease.renewed)
		}
		return with(data), nil
	case !lease.renewable:
		return nil, refuse(http.StatusBadRequest, "lease is not renewable")
	}
	lease.ttl = min(cmp.Or(max(0, c.time("increment")), lease.ttl), lease.made.Add(longestLease).Sub(c.now))
	lease.ends, lease.renewed = c.now.Add(lease.ttl), c.now
	if holder := v.byAccessor(lease.token); holder != nil {
		v.o.Keys.until(lease.key, earlier(lease.ends, holder.ends))
	}
	v.record.LeasesRenewed++
	env := with(nil)
	env.LeaseID, env.Renewable, env.LeaseDuration = lease.id, true, seconds(lease.ttl)
	return env, nil
}

// RevokeLeases ends all leases, and the keys of IAM users with them.
func (v *Vault) RevokeLeases() {
	v.state.Lock()
	defer v.state.Unlock()
	for _, lease := range v.leases {
		v.endLease(lease)
	}
}

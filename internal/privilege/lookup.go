package privilege

import (
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
)

// Lookup resolves a user and a group, each a name or a decimal id; a name that consists of digits
// is found as a name first. An empty group is the user's primary one. A numeric user that is in no
// database is accepted if a group is given, and has no other groups.
func Lookup(userName, groupName string) (Target, error) {
	if userName == "" {
		return Target{}, errors.New("look up user: the name is empty; name a user, or \"root\" to stay root")
	}
	account, uid, err := findUser(userName)
	if err != nil {
		return Target{}, err
	}
	t := Target{User: userName, UID: uid}
	if t.GID, err = primaryGroup(account, userName, groupName); err != nil {
		return Target{}, err
	}
	if t.Groups, err = memberships(account); err != nil {
		return Target{}, err
	}
	if !slices.Contains(t.Groups, t.GID) {
		t.Groups = append(t.Groups, t.GID)
	}
	return t, nil
}

// findUser returns the user's account, nil for a bare number that no database knows, and its id.
func findUser(name string) (*user.User, int, error) {
	account, err := user.Lookup(name)
	if err != nil {
		id, numeric := parseID(name)
		if !numeric {
			return nil, 0, fmt.Errorf("look up user %q: no such user; create it or name another: %w", name, err)
		}
		if account, err = user.LookupId(name); err != nil {
			return nil, id, nil
		}
	}
	id, ok := parseID(account.Uid)
	if !ok {
		return nil, 0, fmt.Errorf("look up user %q: its id %q is not a number", name, account.Uid)
	}
	return account, id, nil
}

// primaryGroup is the named group, or that of the account when none is named.
func primaryGroup(account *user.User, userName, groupName string) (int, error) {
	if groupName == "" {
		if account == nil {
			return 0, fmt.Errorf("look up user %q: no such account, so its group is unknown; set group as well", userName)
		}
		groupName = account.Gid
	} else if group, err := user.LookupGroup(groupName); err == nil {
		groupName = group.Gid
	}
	id, ok := parseID(groupName)
	if !ok {
		return 0, fmt.Errorf("look up group %q: no such group; create it or name another", groupName)
	}
	return id, nil
}

// memberships lists the groups that the account belongs to, its primary one included.
func memberships(account *user.User) ([]int, error) {
	if account == nil {
		return nil, nil
	}
	names, err := account.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up groups of user %q: %w", account.Username, err)
	}
	ids := make([]int, 0, len(names)+1)
	for _, name := range names {
		if id, ok := parseID(name); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// parseID reads a decimal user or group id. The highest 32-bit value is the kernel's "unchanged"
// and no id.
func parseID(s string) (int, bool) {
	id, err := strconv.ParseUint(s, 10, 32)
	return int(id), err == nil && id != 1<<32-1
}

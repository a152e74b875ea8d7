package client

import (
	"errors"
	"fmt"

	atollv1 "github.com/atolldb/atoll/proto/atoll/v1"
)

// A write with a condition happens if that holds, and then replaces all that is
// there; else it is ErrConditionFailed, nothing is written, and Error.Current is
// what is there. At LocalSerial the owners of the key in the region judge it
// together: of two writes with the same condition one happens. So it is at Serial,
// where those of the bucket's home region do, for all regions. At other levels one
// owner judges it, and a write that another takes at the same time becomes a
// sibling.

// ConditionOption is the option of IfAbsent, IfPresent, IfVersion and IfUnchanged.
type ConditionOption struct{ c condition }

// IfAbsent writes if the key has no value.
func IfAbsent() ConditionOption { return ConditionOption{condition{is: ifAbsent}} }

// IfPresent writes if the key has a value, or siblings.
func IfPresent() ConditionOption { return ConditionOption{condition{is: ifPresent}} }

// IfVersion writes if exactly the write id is there, without siblings. It is the ID
// of a Sibling; an Object without a conflict has one.
func IfVersion(id VersionID) ConditionOption {
	return ConditionOption{condition{is: ifVersion, version: id}}
}

// IfUnchanged writes if nothing is there that v has not seen: compare and set.
// It is After(v) besides. The zero Version has seen nothing, so with it a write
// happens if the key has no value.
func IfUnchanged(v Version) ConditionOption {
	return ConditionOption{condition{is: ifContext, after: v}}
}

func (o ConditionOption) applyWrite(c *writeConfig) {
	given := c.cond.given + 1
	c.cond = o.c
	if c.cond.given = given; c.cond.is == ifContext {
		c.after = c.cond.after
	}
}

type conditionKind uint8

const (
	always conditionKind = iota
	ifAbsent
	ifPresent
	ifVersion
	ifContext
)

// condition of a write; at most one.
type condition struct {
	is      conditionKind
	version VersionID // of ifVersion
	after   Version   // of ifContext
	given   int       // how many there were
}

func (c *condition) wire() *atollv1.Condition {
	switch c.is {
	case ifAbsent:
		return &atollv1.Condition{Condition: &atollv1.Condition_IfAbsent{IfAbsent: true}}
	case ifPresent:
		return &atollv1.Condition{Condition: &atollv1.Condition_IfPresent{IfPresent: true}}
	case ifVersion:
		v := &atollv1.Version{Actor: c.version.Actor, N: c.version.N}
		return &atollv1.Condition{Condition: &atollv1.Condition_IfVersion{IfVersion: v}}
	case ifContext:
		return &atollv1.Condition{Condition: &atollv1.Condition_IfContext{IfContext: true}}
	case always:
	}
	return nil
}

// check refuses what contradicts itself.
func (c *condition) check(cfg *writeConfig) *Error {
	switch {
	case c.given > 1:
		return invalid("condition", "1 condition", fmt.Sprintf("%d conditions", c.given), "a write has one condition at most")
	case c.is == ifContext && c.after != cfg.after:
		return invalid("after", "the version of IfUnchanged", "another version", "IfUnchanged is After, too, of the same version")
	case c.is == ifVersion && (c.version.Actor == 0 || c.version.N == 0):
		return invalid("condition.if_version", "a version", fmt.Sprintf("%d@%d", c.version.N, c.version.Actor), "a condition on no version")
	}
	return nil
}

// Current returns what was there in place of what the condition asked for, with
// ErrConditionFailed; false with other errors. Its Version is for the next try: no
// read is needed. Its siblings are not resolved, and Value is there if there is but
// one; large ones may be Omitted, see OmitLarge.
func (e *Error) Current() (Object, bool) {
	if e.instead == nil {
		return Object{}, false
	}
	return *e.instead, true
}

// current is what a write that failed with err has found, nil if it says nothing.
func current(err error) *Object {
	var e *Error
	if !errors.As(err, &e) {
		return nil
	}
	return e.instead
}

// instead completes an error about key with what is there.
func (c *Client) instead(err *Error, key string) *Error {
	if err.current == nil {
		return err
	}
	obj := c.object(key, err.current)
	if distinct, live := collapse(obj.siblings); live == 1 {
		for _, s := range distinct {
			if !s.Deleted {
				obj.value = s.Value
			}
		}
	}
	err.instead = &obj
	return err
}

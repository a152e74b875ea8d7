package process

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/v2"
	yamlv3 "go.yaml.in/yaml/v3"
)

// EnvPrefix begins the environment variables that override a configuration:
// ATOLL_DATA_DIR is data_dir, ATOLL_LISTEN_CLIENT is listen.client. Lists and
// maps cannot be set so.
const EnvPrefix = "ATOLL_"

// delim separates the parts of a path inside koanf: unlike a dot, it is in no
// bucket's name.
const delim = "/"

// Load reads a configuration from a YAML file and the variables of environ
// (as os.Environ returns them), over the defaults. It returns all problems at
// once, as Problems: keys that do not exist and values that are out of bounds.
func Load(file string, environ []string) (Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	c, err := parse(Default(), b, environ)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", file, err)
	}
	return c, nil
}

// Override returns c with the values that the variables of environ have.
func (c Config) Override(environ []string) (Config, error) {
	c, err := parse(c, nil, environ)
	if err != nil {
		return Config{}, fmt.Errorf("configuration from the environment: %w", err)
	}
	return c, nil
}

// raw is a koanf provider of bytes that were read.
type raw []byte

func (r raw) ReadBytes() ([]byte, error)    { return r, nil }
func (r raw) Read() (map[string]any, error) { return nil, errors.ErrUnsupported }

// parse decodes b and the variables of environ over c.
func parse(c Config, b []byte, environ []string) (Config, error) {
	k := koanf.New(delim)
	if err := k.Load(raw(b), yaml.Parser()); err != nil {
		return Config{}, err
	}
	var ps Problems
	vars := variables()
	fromEnv := env.Provider(delim, env.Opt{
		Prefix:      EnvPrefix,
		EnvironFunc: func() []string { return environ },
		TransformFunc: func(name, value string) (string, any) {
			path, known := vars[name]
			if !known {
				// Others use this prefix too: container platforms set
				// ATOLL_PORT and more for a service called atoll. Only what
				// looks like a slip of the finger is one.
				if near := nearest(name, keys(vars)); near != "" {
					ps.add(name, "is no variable of Atoll; did you mean "+near+"?", value)
				}
				return "", nil
			}
			return path, value
		},
	})
	if err := k.Load(fromEnv, nil); err != nil {
		return Config{}, err
	}
	var md mapstructure.Metadata
	err := k.UnmarshalWithConf("", &c, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		TagName:          "yaml",
		Metadata:         &md,
		WeaklyTypedInput: true, // the environment has strings only
		DecodeHook:       mapstructure.TextUnmarshallerHookFunc(),
		MatchName:        func(key, field string) bool { return key == field },
	}})
	ps = append(ps, typeProblems(err)...)
	slices.Sort(md.Unused)
	for _, key := range md.Unused {
		ps = append(ps, unknown(key))
	}
	c.complete()
	var more Problems
	if err := c.Validate(); errors.As(err, &more) {
		ps = append(ps, more...)
	}
	return c, ps.err()
}

// typeProblems are the values that do not even decode.
func typeProblems(err error) Problems {
	switch e := err.(type) { // the tree of errors is walked, not searched
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var ps Problems
		for _, one := range e.Unwrap() {
			ps = append(ps, typeProblems(one)...)
		}
		return ps
	case *mapstructure.DecodeError:
		p := Problem{Field: e.Name(), Want: e.Unwrap().Error(), Seen: "a value of another kind"}
		var parse *mapstructure.ParseError
		var other *mapstructure.UnconvertibleTypeError
		switch {
		case errors.As(e, &parse):
			p.Want, p.Seen = "must be "+kindName(parse.Expected.Type()), fmt.Sprintf("%#v", parse.Value)
		case errors.As(e, &other):
			p.Want, p.Seen = "must be "+kindName(other.Expected.Type()), fmt.Sprintf("%T", other.Value)
		}
		return Problems{p}
	default:
		if inner := errors.Unwrap(err); inner != nil {
			return typeProblems(inner)
		}
		return Problems{{"(file)", "must decode", err.Error()}}
	}
}

func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "a block of keys"
	default:
		return "a whole number"
	}
}

// unknown is for a key that does not exist; it suggests one that does.
func unknown(path string) Problem {
	parent, key := "", path
	if i := strings.LastIndexByte(path, '.'); i >= 0 {
		parent, key = path[:i+1], path[i+1:]
	}
	p := Problem{Field: path, Want: "is no key of the configuration", Seen: key}
	siblings := keysAt(parent)
	if near := nearest(key, siblings); near != "" {
		p.Want += "; did you mean " + near + "?"
	} else if len(siblings) > 0 {
		p.Want += "; there are " + strings.Join(siblings, ", ")
	}
	return p
}

// keysAt lists the keys below a path like "regions[0].members[1].".
func keysAt(path string) []string {
	t := reflect.TypeFor[Config]()
	for part := range strings.SplitSeq(strings.TrimSuffix(path, "."), ".") {
		if part == "" {
			break
		}
		name, _, _ := strings.Cut(part, "[")
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() == reflect.Map { // the part is a name
			t = t.Elem()
			continue
		}
		f, ok := fieldOf(t, name)
		if !ok {
			return nil
		}
		t = f.Type
	}
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for f := range fields(t) {
		out = append(out, f)
	}
	return out
}

// fields yields the keys of a struct with their fields.
func fields(t reflect.Type) func(yield func(string, reflect.StructField) bool) {
	return func(yield func(string, reflect.StructField) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if name != "-" && !yield(name, f) {
				return
			}
		}
	}
}

func fieldOf(t reflect.Type, key string) (reflect.StructField, bool) {
	if t.Kind() == reflect.Struct {
		for name, f := range fields(t) {
			if name == key {
				return f, true
			}
		}
	}
	return reflect.StructField{}, false
}

// variables maps the names of environment variables to paths.
func variables() map[string]string {
	vars := map[string]string{}
	var walk func(t reflect.Type, path []string)
	walk = func(t reflect.Type, path []string) {
		for name, f := range fields(t) {
			at := append(slices.Clone(path), name)
			ft := f.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			switch ft.Kind() {
			case reflect.Struct:
				walk(ft, at)
			case reflect.Slice, reflect.Map:
			default:
				vars[EnvPrefix+strings.ToUpper(strings.Join(at, "_"))] = strings.Join(at, delim)
			}
		}
	}
	walk(reflect.TypeFor[Config](), nil)
	return vars
}

func keys(m map[string]string) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// nearest returns the name that is at most two slips away from s, "" for none.
func nearest(s string, names []string) string {
	best, least := "", 3
	for _, n := range names {
		if d := distance(s, n); d < least {
			best, least = n, d
		}
	}
	return best
}

// distance counts the letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// YAML writes the configuration as a file that Load reads, without passwords.
func (c Config) YAML() ([]byte, error) {
	c.Regions = slices.Clone(c.Regions)
	for i := range c.Regions {
		c.Regions[i].NATS = slices.Clone(c.Regions[i].NATS)
		for j, u := range c.Regions[i].NATS {
			c.Regions[i].NATS[j] = redactURL(u)
		}
	}
	b, err := yamlv3.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return b, nil
}

// redactURL hides what is before the @: the user of a URL may be a token.
func redactURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "(an address that cannot be parsed)"
	}
	if u.User != nil {
		u.User = url.User("redacted")
	}
	return u.String()
}

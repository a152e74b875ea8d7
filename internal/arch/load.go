package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// Tree is the parsed source of a module.
type Tree struct {
	Fset  *token.FileSet
	Files []*File
}

// File is one Go file.
type File struct {
	*ast.File
	// Dir is the package's path below the module: "crdt/hlc", "." for the root.
	Dir       string
	Name      string // path of the file below the module
	Test      bool   // *_test.go
	Generated bool
	Imports   []Import
}

// Import is one import of a file.
type Import struct {
	Path string
	// Local is the path below the module, empty for other modules' packages.
	Local string
	pos   token.Pos
}

// Load parses every Go file below root, with whatever build tags.
func Load(root fs.FS) (*Tree, error) {
	t := &Tree{Fset: token.NewFileSet()}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() {
			hidden := len(base) > 1 && base[0] == '.' || base[0] == '_'
			if hidden || base == "testdata" || base == "bin" {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(base, ".go") {
			return nil
		}
		src, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		f, err := t.parse(name, src)
		if err != nil {
			return err
		}
		t.Files = append(t.Files, f)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load the source tree: %w", err)
	}
	return t, nil
}

func (t *Tree) parse(name string, src []byte) (*File, error) {
	parsed, err := parser.ParseFile(t.Fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	f := &File{
		File:      parsed,
		Dir:       path.Dir(name),
		Name:      name,
		Test:      strings.HasSuffix(name, "_test.go"),
		Generated: ast.IsGenerated(parsed),
	}
	for _, spec := range parsed.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		imp := Import{Path: p, pos: spec.Pos()}
		if p == module {
			imp.Local = "."
		} else if rest, ok := strings.CutPrefix(p, module+"/"); ok {
			imp.Local = rest
		}
		f.Imports = append(f.Imports, imp)
	}
	return f, nil
}

func (t *Tree) violation(pos token.Pos, why, format string, args ...any) Violation {
	return Violation{Pos: t.Fset.Position(pos), What: fmt.Sprintf(format, args...), Why: why}
}

// within reports whether p is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	root             = "../.."
	module           = "kiln"
	functionLinesMax = 70
)

// layers says which packages of this module each package may import. A package
// that is not here may not exist: name its place in the picture first.
var layers = map[string][]string{
	"internal/lint": {},
	// For tests.
	"internal/certtest":   {},
	"internal/guard":      {},
	"internal/npmtest":    {},
	"internal/shareddata": {},
	"internal/vfs":        {},
	"internal/vfs/sealed": {"internal/vfs"},
	"fhir":                {},
	"fhir/patch":          {"fhir", "fhir/structure"},
	"wal":                 {"internal/vfs", "internal/vfs/sealed"},
	"fhir/search":         {"fhir", "fhir/structure"},
	"index":               {"fhir/search", "fhir", "internal/vfs", "internal/vfs/sealed"},
	"engine":              {"index", "wal", "fhir/search", "fhir", "internal/vfs", "internal/vfs/sealed"},
	"bulk":                {"fhir/ucum", "fhir/view", "fhir/parquet", "query", "fhir/search", "engine", "index", "fhir/structure", "fhir", "internal/vfs"},
	"bulk/backup":         {"bulk", "engine", "wal", "index", "internal/vfs", "internal/vfs/sealed"},
	"query":               {"engine", "index", "fhir/search", "fhir/terminology", "fhir/ucum", "fhir"},
	"httpapi/access":      {"fhir"},
	"httpapi/auth":        {"httpapi/access", "engine", "fhir", "internal/vfs"},
	"httpapi/audit":       {"internal/vfs"},
	"httpapi":             {"httpapi/audit", "httpapi/access", "httpapi/auth", "fhir/view", "bulk", "bulk/backup", "query", "engine", "fhir/search", "fhir/structure", "fhir/ucum", "fhir", "fhir/patch", "internal/vfs"},
	"bench/synth":         {},
	"bench":               {"bench/synth", "httpapi", "bulk", "engine", "fhir", "internal/vfs"},
	"cmd/kiln":            {"httpapi/audit", "bench/synth", "httpapi", "httpapi/auth", "bulk", "bulk/backup", "query", "engine", "wal", "index", "fhir/ucum", "fhir", "internal/vfs", "internal/vfs/sealed"},

	"fhir/structure":          {"fhir"},
	"fhir/terminology":        {"fhir"},
	"fhir/ucum":               {},
	"fhir/structure/generate": {"fhir"},
	"fhir/parquet":            {"fhir/structure", "fhir"},
	"fhir/view":               {"fhir/structure", "fhir"},
}

// bannedImports names the replacement for each.
var bannedImports = map[string]string{
	"log":                                 "log/slog",
	"io/ioutil":                           "io and internal/vfs",
	"flag":                                "github.com/alecthomas/kong",
	"math/rand":                           "math/rand/v2",
	"github.com/RoaringBitmap/roaring":    "github.com/RoaringBitmap/roaring/v2",
	"github.com/dgraph-io/badger":         "github.com/dgraph-io/badger/v4",
	"gopkg.in/yaml.v3":                    "go.yaml.in/yaml/v3",
	"gopkg.in/yaml.v2":                    "go.yaml.in/yaml/v3",
	"github.com/pkg/errors":               "fmt.Errorf with %w",
	"compress/gzip":                       "github.com/klauspost/compress/gzip",
	"github.com/bytedance/sonic":          "package fhir",
	"github.com/tidwall/gjson":            "package fhir",
	"github.com/prometheus/client_golang": "github.com/VictoriaMetrics/metrics",
}

// bannedIn bans imports in the product code of some packages only.
var bannedIn = map[string]map[string]string{
	"engine":      {"os": "internal/vfs", "encoding/json": "package fhir (bytes, not objects)", "reflect": "plain code"},
	"wal":         {"os": "internal/vfs", "encoding/json": "fixed layouts", "reflect": "plain code"},
	"index":       {"os": "internal/vfs", "encoding/json": "fixed layouts", "reflect": "plain code"},
	"fhir":        {"os": "nothing: the scanner sees bytes only", "encoding/json": "the scanner", "reflect": "plain code"},
	"fhir/search": {"os": "nothing: the tables are embedded", "encoding/json": "package fhir", "reflect": "plain code"},
	"query":       {"os": "nothing: it reads no files", "encoding/json": "package fhir (bytes, not objects)", "reflect": "plain code"},
	"bulk":        {"os": "internal/vfs", "reflect": "plain code"},
	"bulk/backup": {"os": "internal/vfs", "reflect": "plain code"},
	"httpapi":     {"os": "internal/vfs", "net/http": "github.com/valyala/fasthttp", "reflect": "plain code"},
	// net/http is for asking issuers only: it has redirects, proxies and HTTP/2, which
	// fasthttp's client does not.
	"httpapi/auth":  {"os": "internal/vfs", "reflect": "plain code"},
	"httpapi/audit": {"os": "internal/vfs", "encoding/json": "bytes", "reflect": "plain code"},

	"fhir/structure":   {"os": "nothing: the checker sees bytes only", "encoding/json": "the bytes", "reflect": "plain code"},
	"fhir/terminology": {"os": "nothing: it reads resources only", "encoding/json": "package fhir (bytes, not objects)", "reflect": "plain code"},
}

// bannedCalls are package.Function calls banned in the product code of some packages.
var bannedCalls = map[string]map[string]string{
	"engine": {"time.Now": "Options.Now", "time.Since": "Options.Now", "time.Until": "Options.Now", "strconv.ParseFloat": "the number's text"},
	"wal":    {"time.Now": "Options.Now", "time.Since": "Options.Now", "time.Until": "Options.Now"},
	"index":  {"time.Now": "the caller's clock", "time.Since": "the caller's clock", "strconv.ParseFloat": "the number's text"},
	"fhir":   {"time.Now": "the caller's clock", "time.Since": "the caller's clock", "strconv.ParseFloat": "the number's text"},
	"query":  {"time.Now": "Options.Now", "time.Since": "Options.Now", "strconv.ParseFloat": "the number's text"},
	"bulk":   {"time.Now": "Options.Now", "time.Since": "Options.Now", "time.Until": "Options.Now", "strconv.ParseFloat": "the number's text"},

	"httpapi/auth":   {"time.Now": "Options.Now", "time.Since": "Options.Now", "time.Until": "Options.Now"},
	"httpapi/audit":  {"time.Now": "Options.Now", "time.Since": "Options.Now"},
	"bulk/backup":    {"time.Now": "Options.Now", "time.Since": "Options.Now", "time.Until": "Options.Now"},
	"fhir/structure": {"time.Now": "the caller's clock", "time.Since": "the caller's clock", "strconv.ParseFloat": "the number's text"},
}

// bannedNames are file and package names that say nothing.
var bannedNames = []string{"util", "utils", "helper", "helpers", "common", "misc"}

type source struct {
	path string // slash-separated, below the root
	pkg  string // its folder
	test bool
	file *ast.File
	fset *token.FileSet
}

func (s *source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.fset.Position(n.Pos()).Line)
}

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	var found []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (strings.HasPrefix(name, ".") && name != ".." || name == "testdata" || name == "bin" || name == "shared") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		found = append(found, source{path: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(name, "_test.go"), file: file, fset: fset})
		return nil
	})
	if err != nil {
		t.Fatalf("cannot read the module's sources: %v", err)
	}
	if len(found) < 8 {
		t.Fatalf("found only %d source files: the walk is wrong", len(found))
	}
	return found
}

func TestImportsPointDownOnly(t *testing.T) {
	for _, s := range sources(t) {
		allowed, known := layers[s.pkg]
		if !known {
			t.Errorf("%s: package %s has no place in the layers; add it there and to ARCHITECTURE.md", s.path, s.pkg)
			continue
		}
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			inner, ours := strings.CutPrefix(path, module+"/")
			if !ours || s.test || inner == s.pkg {
				continue
			}
			if !slices.Contains(allowed, inner) {
				t.Errorf("%s: %s may not import %s (it may: %v)", s.at(imp), s.pkg, inner, allowed)
			}
		}
	}
}

func TestBannedImportsNameTheReplacement(t *testing.T) {
	for _, s := range sources(t) {
		for _, imp := range s.file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			instead, banned := bannedImports[path]
			if !banned && !s.test {
				instead, banned = bannedIn[s.pkg][path]
			}
			if banned {
				t.Errorf("%s: do not import %q; use %s", s.at(imp), path, instead)
			}
		}
	}
}

func TestClocksAndFloatsStayOutside(t *testing.T) {
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := sel.X.(*ast.Ident)
			if !ok {
				return true
			}
			if instead, banned := bannedCalls[s.pkg][x.Name+"."+sel.Sel.Name]; banned {
				t.Errorf("%s: %s.%s is not for package %s; use %s", s.at(n), x.Name, sel.Sel.Name, s.pkg, instead)
			}
			return true
		})
	}
}

func TestFunctionsStayShort(t *testing.T) {
	for _, s := range sources(t) {
		for _, decl := range s.file.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			lines := s.fset.Position(fn.End()).Line - s.fset.Position(fn.Pos()).Line + 1
			if lines > functionLinesMax {
				t.Errorf("%s: %s has %d lines; the ceiling is %d", s.at(fn), fn.Name.Name, lines, functionLinesMax)
			}
		}
	}
}

func TestNamesSaySomething(t *testing.T) {
	for _, s := range sources(t) {
		base := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(s.path), ".go"), "_test")
		if slices.Contains(bannedNames, base) || slices.Contains(bannedNames, s.file.Name.Name) {
			t.Errorf("%s: name the file and the package after their role", s.path)
		}
	}
}

package httpapi

import (
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// neverIgnored are query parameters that change what a request means; they are
// refused where they are not supported, even with handling=lenient.
var neverIgnored = [...]string{"_hardDelete", "hardDelete", "_meta-history", "_elements", "_summary", "_purge"}

// checkQuery refuses the query parameters that an interaction does not know.
func (x *exchange) checkQuery(row *interaction) error {
	args := x.ctx.QueryArgs()
	if args.Len() == 0 {
		return nil
	}
	if pretty := args.Peek("_pretty"); len(pretty) > 0 {
		switch string(pretty) {
		case "true":
			x.pretty = true
		case "false":
		default:
			return badRequest("The value of the parameter '_pretty' is not true or false.")
		}
	}
	if slices.Contains(row.params, "*") {
		return nil
	}
	for key := range args.All() {
		name := string(key)
		switch {
		case name == "_format" || name == "_pretty" || slices.Contains(row.params, name):
		case slices.Contains(neverIgnored[:], name) || !x.prefer.lenient:
			return notSupported(fasthttp.StatusBadRequest, "The parameter '%s' is not supported here.", name)
		}
	}
	return nil
}

// single returns a parameter that may be there once; "" when it is absent.
func (x *exchange) single(name string) (string, error) {
	values := x.ctx.QueryArgs().PeekMulti(name)
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return string(values[0]), nil
	default:
		return "", badRequest("The parameter '%s' is given more than once.", name)
	}
}

// unescapedPlus gives back the '+' of a media type or of an offset from UTC. In a
// query it means a space, and many clients forget to escape it.
func unescapedPlus(value string) string { return strings.ReplaceAll(value, " ", "+") }

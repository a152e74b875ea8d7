package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/client"
)

const requestHelp = `A write is one event however often it is sent: owners remember its request id
for ten minutes. If the outcome is unknown (exit code 7) the message names the
id. Then 'atoll outcome KEY ID' asks what became of it; or the same command with
--request-id ID --retry writes it unless it was written, also in another region.`

// requestFlags name the write in all its attempts.
func (q *request) requestFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&q.requestID, "request-id", "", "`ID` of the write, a UUID of version 7; without it, a new one")
	cmd.Flags().BoolVar(&q.retry, "retry", false, "the write was tried before with this --request-id, and its outcome is not known")
	cmd.Flags().StringSliceVar(&q.triedIn, "tried-in", nil, "`REGION,...` where it was tried, for --retry: no others are asked; without it, all are")
}

func (q *request) checkRequest(cmd *cobra.Command, key string) (err error) {
	q.key = key
	if !cmd.Flags().Changed("request-id") {
		if len(q.triedIn) > 0 {
			return usage(cmd, errors.New("--tried-in: give it with --retry and --request-id"))
		}
		if q.retry {
			return usage(cmd, errors.New("--retry: say with --request-id what was tried before"))
		}
		return nil
	}
	if len(q.triedIn) > 0 && !q.retry {
		return usage(cmd, errors.New("--tried-in: give it with --retry"))
	}
	q.id, err = parseRequest(cmd, "request-id", q.requestID)
	return err
}

func parseRequest(cmd *cobra.Command, field, s string) (client.RequestID, error) {
	id, err := client.ParseRequestID(s)
	if err != nil || id.IsZero() {
		return id, usage(cmd, errors.New("not the id of a request"+
			inputBounds(field, "32 hexadecimal digits, not all 0", strconv.Quote(shorten(s, 40)))))
	}
	return id, nil
}

// unknown says what to do about a write of unknown outcome.
func (q *request) unknown(e *client.Error) string {
	if e.RequestID.IsZero() || q.key == "" {
		return "the write may have been applied: read the key before writing again"
	}
	var of string
	if q.bucket != "default" {
		of = " --bucket " + quoted(q.bucket)
	}
	var in string
	if e.Region != "" {
		in = " --tried-in " + e.Region
	}
	text := fmt.Sprintf("the write may have been applied. Ask what became of it: atoll outcome %s %s%s"+
		"\n  or give the same command again with --request-id %[2]s --retry%[4]s, within ten minutes: it writes only what was not written",
		quoted(q.key), e.RequestID, of, in)
	if e.MaybeDuplicate {
		text += "\n  an attempt was repeated while an owner could not be asked: the write may be there twice"
	}
	return text
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// quoted is a word for a shell.
func quoted(s string) string {
	if plainWord.MatchString(s) && !strings.HasPrefix(s, "-") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// outcomeJSON is what outcome prints with -o json.
type outcomeJSON struct {
	RequestID string `json:"request_id"`
	// Outcome is "applied", "not_applied" or "unknown".
	Outcome   string   `json:"outcome"`
	Forgotten bool     `json:"forgotten,omitempty"`
	Version   string   `json:"version,omitempty"`
	Time      string   `json:"time,omitempty"`
	Replicas  []string `json:"replicas,omitempty"`
	Asked     int      `json:"asked"`
	Answered  int      `json:"answered"`
}

func outcomeCommand() *cobra.Command {
	var q request
	cmd := &cobra.Command{
		Use:   "outcome KEY ID",
		Short: "Tell what became of a write",
		Long: `Tell what became of a write of KEY, by the id that the message of an unknown
outcome names, or that was given with --request-id. All owners in all regions
are asked.

applied (exit code 0): it was written; the version tells where.
not applied (exit code 4): it was not, and never will be: asking ends the
  request, so that an attempt which is still under way is refused. Ask only
  when no more attempts are to be made.
unknown (exit code 7): nobody who answered has it, and not all could be asked or
  remember; ask again when all nodes are up, or read the key. After ten minutes
  requests are forgotten.`,
		Example: `  atoll outcome order/7 0199d2c54b1e7a3f8c21d3a5b7e9f012`,
		Args:    cobra.ExactArgs(2),
	}
	q.serverFlags(cmd, defaultTimeout)
	q.followFlags(cmd)
	q.bucketFlag(cmd)
	out := formatFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return runOutcome(cmd, &q, out, args[0], args[1]) }
	return cmd
}

func runOutcome(cmd *cobra.Command, q *request, out *format, key, s string) error {
	id, err := parseRequest(cmd, "ID", s)
	if err != nil {
		return err
	}
	c, err := q.open(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // nothing is under way
	o, err := c.Outcome(cmd.Context(), key, id)
	if err != nil {
		return q.failure(err)
	}
	text, code := outcomeText(o)
	switch {
	case out.value == "json":
		err = printOutcome(cmd, id, o)
	case code == exitOK:
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
	}
	if err == nil && code != exitOK {
		err = withCode(code, errors.New(text))
	}
	return err
}

func outcomeText(o client.WriteOutcome) (string, int) {
	switch {
	case o.Outcome == client.Applied && o.Time.IsZero():
		return "applied as " + versionText(o.ID), exitOK
	case o.Outcome == client.Applied:
		return fmt.Sprintf("applied as %s at %s", versionText(o.ID), o.Time.UTC().Format(timeForm)), exitOK
	case o.Outcome == client.NotApplied:
		return "not applied: no owner has it, and none will take it any more", exitPrecondition
	case o.Forgotten:
		return "unknown: the request is older than the ten minutes that owners remember, or its id does not say how old it is", exitUnknown
	case o.Answered < o.Asked:
		return fmt.Sprintf("unknown: %d of %d owners could be asked, and they do not have it", o.Answered, o.Asked), exitUnknown
	}
	return "unknown: nobody has it, and an owner does not remember so far back, for instance since it has just started", exitUnknown
}

func printOutcome(cmd *cobra.Command, id client.RequestID, o client.WriteOutcome) error {
	j := outcomeJSON{
		RequestID: id.String(), Outcome: "unknown", Forgotten: o.Forgotten, Replicas: o.Replicas, Asked: o.Asked, Answered: o.Answered,
	}
	switch o.Outcome {
	case client.Applied:
		j.Outcome, j.Version = "applied", versionText(o.ID)
		if !o.Time.IsZero() {
			j.Time = o.Time.UTC().Format(timeForm)
		}
	case client.NotApplied:
		j.Outcome = "not_applied"
	case client.UnknownOutcome:
	}
	return printJSON(cmd.OutOrStdout(), j)
}

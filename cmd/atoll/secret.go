package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/internal/wholefile"
	"github.com/atolldb/atoll/node/keyring"
)

func secretCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Make and replace the secret of a deployment, in its file",
		Long: `The secret authenticates what clients hold of the store: contexts and session
tokens. It is in a file that all nodes of all regions have (secret_file). These
commands change such a file; they speak to no node. Nodes look at their file
every two seconds.

To replace the secret, without a pause and without a refused write:

  atoll secret add FILE        a new one that everybody accepts
  atoll secret promote FILE    it signs from now on, the old one is accepted
  atoll secret retire FILE     the old one is gone

After each step bring the file to all nodes, and go on when all of them say that
they use it: the metric atoll_secret_info, or the log line "secrets in force",
has what 'atoll secret show' prints. Before the last step wait for as long as
clients keep contexts and tokens.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		secretStep("new", "Make a file with a new secret", func(keyring.Ring) (keyring.Ring, error) {
			return keyring.Parse([]byte(newSecret()))
		}),
		secretStep("show", "Show the marks of a file's secrets, the one that signs first", nil),
		secretStep("add", "Add a new secret, which is accepted and does not sign yet", func(r keyring.Ring) (keyring.Ring, error) {
			return r.Add(newSecret())
		}),
		secretStep("promote", "Have the added secret sign", keyring.Ring.Promote),
		secretStep("retire", "Take the old secret away", keyring.Ring.Retire),
	)
	return cmd
}

func newSecret() crdt.Secret { return crdt.Secret(rand.Text() + rand.Text()) }

// secretStep is one command on a file; a nil step changes nothing.
func secretStep(name, short string, step func(keyring.Ring) (keyring.Ring, error)) *cobra.Command {
	return &cobra.Command{
		Use: name + " FILE", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ring, err := readSecrets(args[0], name == "new")
			if err != nil {
				return withCode(exitUsage, err)
			}
			if step != nil {
				if ring, err = step(ring); err != nil {
					return withCode(exitUsage, fmt.Errorf("%s: %w", args[0], err))
				}
				if err := wholefile.Replace(args[0], ring.Format()); err != nil {
					return fmt.Errorf("write %s: %w", args[0], err)
				}
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(ring.Marks(), ","))
			return err
		},
	}
}

// readSecrets reads a file that is there, or, for a new one, that is not.
func readSecrets(file string, fresh bool) (keyring.Ring, error) {
	b, err := os.ReadFile(file)
	switch {
	case fresh && err == nil:
		return keyring.Ring{}, fmt.Errorf("%s is there already", file)
	case fresh && errors.Is(err, os.ErrNotExist):
		return keyring.Ring{}, nil
	case err != nil:
		return keyring.Ring{}, err
	}
	ring, err := keyring.Parse(b)
	if err != nil {
		return ring, fmt.Errorf("%s: %w", file, err)
	}
	return ring, nil
}

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// commands are the constructors of all commands. A file that adds one adds it
// to this list. (A function, since the shell of the demo needs the tree.)
func commands() []func() *cobra.Command {
	return []func() *cobra.Command{
		startCommand, configCommand, growCommand, versionCommand,
		getCommand, putCommand, delCommand, siblingsCommand, resolveCommand, awaitCommand, outcomeCommand,
		statusCommand, regionCommand, ringCommand, bucketCommand, secretCommand,
		drCommand, nodeCommand, taskCommand, paceCommand, repairCommand, collectCommand, hotkeysCommand,
		importCommand, exportCommand, backupCommand, restoreCommand, benchCommand, planCommand,
		demoCommand,
		exitCodesTopic, consistencyTopic,
	}
}

// root returns the whole command tree, afresh each time.
func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "atoll",
		Short: "A key-value store over several data centres that never hides a conflict",
		// Errors are printed once, by run; the usage on request.
		SilenceErrors: true,
		SilenceUsage:  true,
		// What 'atoll version' prints.
		Version: programText(),
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, make := range commands() {
		cmd.AddCommand(make())
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if strings.HasPrefix(err.Error(), "unknown shorthand flag") {
			err = fmt.Errorf("%w; what begins with - and is no flag goes after --", err)
		}
		return usage(cmd, err)
	})
	cmd.SetUsageTemplate(wrapped(cmd.UsageTemplate()))
	misuse(cmd)
	return cmd
}

// misuse gives wrong arguments of cmd, and of all commands below, the exit
// code of a wrong flag, and suggests the command that was meant.
func misuse(cmd *cobra.Command) {
	cmd.SuggestionsMinimumDistance = 2
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			switch {
			case err == nil:
				return nil
			case cmd.HasAvailableSubCommands() && len(args) > 0:
				if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
					err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
				}
			}
			return usage(cmd, err)
		}
	}
	for _, c := range cmd.Commands() {
		misuse(c)
	}
}

// usage is the error of a command that was called wrongly.
func usage(cmd *cobra.Command, err error) error {
	return withCode(exitUsage, usageError{err, cmd.CommandPath()})
}

type usageError struct {
	error
	path string
}

func (e usageError) Error() string {
	return e.error.Error() + "; see '" + e.path + " --help'"
}

func (e usageError) Unwrap() error { return e.error }

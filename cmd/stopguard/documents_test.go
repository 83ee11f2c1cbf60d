package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var (
	codeText  = regexp.MustCompile("(?ms)^```(?:sh|console)\n.*?^```$|`[^`\n]+`")
	toolCall  = regexp.MustCompile("(?m)(?:^|[`|&;$] ?)stopguard ([a-z][^`|&;>#\n]*)")
	shellWord = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)
)

// A document that names a command, an option or a value that is gone would lead its reader astray.
func TestEachCommandInTheDocumentsIsUnderstood(t *testing.T) {
	calls := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata" || d.Name() == "dist") {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".md") || d.Name() == "CHANGELOG.md" {
			return nil
		}
		content, err := os.ReadFile(path)
		for _, code := range codeText.FindAllString(string(content), -1) {
			for _, call := range toolCall.FindAllStringSubmatch(strings.ReplaceAll(code, "\\\n", " "), -1) {
				calls++
				if err := understand(shellWord.FindAllString(call[1], -1)); err != nil {
					t.Errorf("%s: stopguard %s: %v", path, call[1], err)
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if calls < 100 {
		t.Errorf("only %d commands are found", calls)
	}
}

// understand parses a command line as the tool would, without running it.
func understand(words []string) error {
	for i, word := range words {
		words[i] = strings.NewReplacer("'", "", `"`, "").Replace(word)
	}
	c, rest, err := root().Find(words)
	if err != nil {
		return err
	}
	c.InitDefaultHelpFlag()
	return c.ParseFlags(rest)
}

// freeText are the options that nothing can be proposed for. Without a completion of their own, a
// shell would propose files.
var freeText = strings.Fields("at-most for owner reason requester revision since until")

// files are the options whose value is a file or a folder, which a shell proposes.
var files = strings.Fields("file gate hook key policy sign thin xml")

func TestWhatCanBeCompletedIs(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			_, completes := c.GetFlagCompletionFunc(f.Name)
			named := func(names []string) bool { return slices.Contains(names, f.Name) }
			switch {
			case f.Value.Type() == "bool" || f.Name == "help" || f.Name == "version":
			case !completes && !named(files) && c.CommandPath()+" "+f.Name != "stopguard policy build output":
				t.Errorf("%s --%s is not completed", c.CommandPath(), f.Name)
			case completes && named(freeText):
				proposed, directive := completion(c, f.Name)
				if len(proposed) > 0 || directive != cobra.ShellCompDirectiveNoFileComp {
					t.Errorf("%s --%s: %q is proposed", c.CommandPath(), f.Name, proposed)
				}
			}
		})
		takesArgument := c.Runnable() && !c.HasSubCommands() && (c.Args == nil || c.Args(c, []string{"x"}) == nil || c.Args(c, []string{"x", "y"}) == nil)
		if takesArgument && c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 && c.Name() != "help" {
			t.Errorf("%s: its argument is not completed", c.CommandPath())
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root())
}

func completion(c *cobra.Command, flag string) ([]cobra.Completion, cobra.ShellCompDirective) {
	complete, _ := c.GetFlagCompletionFunc(flag)
	return complete(c, nil, "")
}

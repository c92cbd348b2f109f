package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// DefaultFile is read when no other file is named and it exists.
const DefaultFile = "/etc/hipache.json"

// flavorVariable picks a variant of the default file (Hipache: bin/hipache).
const flavorVariable = "SETTINGS_FLAVOR"

// maxFileBytes bounds a configuration file; the largest sensible one has a hundredth of it.
const maxFileBytes = 1 << 20

// findFile names the file to read; empty means that there is none and none was asked for. As in
// Hipache, a file named on the command line wins over SETTINGS_FLAVOR.
func (l *loader) findFile() (string, error) {
	flavor := l.env[flavorVariable]
	if l.opts.File != "" {
		if flavor != "" {
			l.warnf("%s=%s is ignored: the configuration file was named on the command line", flavorVariable, flavor)
		}
		return l.opts.File, nil
	}
	standard := l.opts.DefaultFile
	if standard == "" {
		standard = DefaultFile
	}
	if flavor == "" {
		_, err := os.Stat(standard)
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return standard, nil
	}
	if strings.ContainsRune(flavor, filepath.Separator) {
		return "", fmt.Errorf("%s=%s: must be a word such as \"production\", not a path", flavorVariable, flavor)
	}
	candidates := flavorFiles(standard, flavor)
	for _, candidate := range candidates {
		if _, err := os.Stat(candidate); err == nil {
			return candidate, nil
		}
	}
	return "", fmt.Errorf("%s=%s: none of %s exists; name the file with --config",
		flavorVariable, flavor, strings.Join(candidates, ", "))
}

// flavorFiles lists where the file of a flavor may be: in the working directory, in Hipache's
// config folder there, and beside the default file.
func flavorFiles(standard, flavor string) []string {
	name := "config_" + flavor + ".json"
	return []string{
		name,
		filepath.Join("config", name),
		strings.TrimSuffix(standard, ".json") + "_" + flavor + ".json",
		filepath.Join(strings.TrimSuffix(standard, ".json"), name),
	}
}

// readFile reads and parses a configuration file.
func readFile(path string) (node, error) {
	file, err := os.Open(path)
	if err != nil {
		return node{}, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return node{}, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFileBytes {
		return node{}, fmt.Errorf("read configuration: %s is larger than %d bytes", path, maxFileBytes)
	}
	return parseDocument(path, data)
}

package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Larger than any tile, bundle or checkpoint of a log with entries under 64 KiB.
const largestFile = 32 << 20

// A source holds the files of a log under their tlog-tiles names.
type source interface {
	read(name string) ([]byte, error)
}

func open(location string) source {
	if strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://") {
		return server(strings.TrimSuffix(location, "/"))
	}
	return directory(location)
}

type directory string

func (d directory) read(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(string(d), filepath.FromSlash(name)))
}

type server string

var client = http.Client{Timeout: 30 * time.Second}

func (s server) read(name string) ([]byte, error) {
	response, err := client.Get(string(s) + "/" + name)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", name, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, largestFile))
}

package cache

import "os"

// scaleWanted tells whether the long forms of the tests of size were asked for: make scale.
func scaleWanted() bool { return os.Getenv("SCALE") != "" }

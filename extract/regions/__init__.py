"""Where the hands and the objects in them are: boxes of detectors, and the parts of a picture that a backbone sees."""

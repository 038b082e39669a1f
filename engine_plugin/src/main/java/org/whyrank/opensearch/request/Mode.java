package org.whyrank.opensearch.request;

import java.util.Arrays;
import java.util.Locale;
import java.util.stream.Collectors;

/** How the model judges: explain, then label; or label at once. */
public enum Mode {
    REASON,
    LABEL;

    /** Throws IllegalArgumentException for a name that is none. */
    public static Mode of(String name) {
        return Arrays.stream(values())
            .filter(mode -> mode.toString().equals(name))
            .findFirst()
            .orElseThrow(() -> new IllegalArgumentException("must be one of " + names() + ", not [" + name + "]"));
    }

    private static String names() {
        return Arrays.stream(values()).map(Mode::toString).collect(Collectors.joining(", "));
    }

    @Override
    public String toString() {
        return name().toLowerCase(Locale.ROOT);
    }
}

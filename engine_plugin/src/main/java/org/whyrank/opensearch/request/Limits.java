package org.whyrank.opensearch.request;

/** What the sidecar takes; kept here too, so that a search never fails for it. */
public final class Limits {
    public static final int WINDOW = 200;
    public static final int DEADLINE_MS = 60_000;
    public static final int FIELDS = 32;
    public static final int NAME = 255;
    public static final int QUERY = 100_000;
    public static final int INDEX = 4_096;
    public static final int RANKING = 512;
    /** Characters of one field of one hit. */
    public static final int TEXT = 1_000_000;

    private Limits() {}

    /** The number, if it is within the bounds. Throws IllegalArgumentException. */
    public static int within(int number, int least, int most) {
        if (number < least || number > most) {
            throw new IllegalArgumentException("must be from " + least + " to " + most + ", not " + number);
        }
        return number;
    }

    /** The text, if it is neither blank nor longer than {@code most} characters. Throws IllegalArgumentException. */
    public static String named(String text, int most) {
        if (text.isBlank() || text.length() > most) {
            throw new IllegalArgumentException("must have 1 to " + most + " characters");
        }
        return text;
    }
}

package org.whyrank.opensearch.request;

/** What Java's strings can hold and UTF-8 cannot. */
public final class Texts {
    private Texts() {}

    /** The text with U+FFFD in place of halves of characters; documents hold such, and answers could. */
    public static String readable(String text) {
        StringBuilder mended = null;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (Character.isHighSurrogate(c) && i + 1 < text.length() && Character.isLowSurrogate(text.charAt(i + 1))) {
                i++;
            } else if (Character.isSurrogate(c)) {
                mended = mended == null ? new StringBuilder(text) : mended;
                mended.setCharAt(i, '\uFFFD');
            }
        }
        return mended == null ? text : mended.toString();
    }

    /** At most so many characters of the text, none of them cut in half. */
    public static String first(String text, int most) {
        return text.length() <= most ? text : readable(text.substring(0, most));
    }
}

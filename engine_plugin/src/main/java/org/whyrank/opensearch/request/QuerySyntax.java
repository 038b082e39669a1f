package org.whyrank.opensearch.request;

import java.util.ArrayList;
import java.util.List;

/**
 * The words of a query in one of the engine's two syntaxes, without operators and without what they exclude.
 *
 * <p>A scanner, not a regular expression: Java's backtrack on the stack, and a query's length is the user's choice.
 */
enum QuerySyntax {
    /** Of {@code query_string}: fields, ranges, regular expressions, {@code NOT}. */
    FULL,
    /** Of {@code simple_query_string}. */
    SIMPLE;

    String words(String text) {
        return new Scanner(this, text).words();
    }

    private static final class Scanner {
        private final boolean full;
        private final String text;
        private final List<String> words = new ArrayList<>();
        private int at;
        /** Whether the next clause is excluded. */
        private boolean excluding;
        /** Open groups, and the depth at which an excluded group began (0: none). */
        private int depth;
        private int excludedDepth;

        Scanner(QuerySyntax syntax, String text) {
            this.full = syntax == FULL;
            this.text = text;
        }

        String words() {
            while (at < text.length()) {
                next();
            }
            return String.join(" ", words);
        }

        private void next() {
            char c = text.charAt(at);
            if (c == '"') {
                phrase();
            } else if (c == '(') {
                at++;
                open();
            } else if (c == ')') {
                at++;
                suffix();
                close();
            } else if (full && (c == '[' || c == '{')) {
                range();
                clause(null);
            } else if (full && c == '/' && closingSlash() > 0) {
                at = closingSlash() + 1;
                clause(null);
            } else if (full && (c == '<' || c == '>')) {
                at++;
                until(" ()");
                clause(null);
            } else if (isNot(c)) {
                at += c == 'N' ? 3 : 1;
                excluding = true;
            } else if (operatorLength(c) > 0) {
                at += operatorLength(c);
            } else if (Character.isWhitespace(c)) {
                at++;
            } else {
                wordOrField();
            }
        }

        private void phrase() {
            int start = ++at;
            while (at < text.length() && text.charAt(at) != '"') {
                at += text.charAt(at) == '\\' ? 2 : 1;
            }
            int end = Math.min(at, text.length());
            at = Math.min(end + 1, text.length());
            suffix();
            clause(text.substring(start, end));
        }

        private void wordOrField() {
            if (full && text.charAt(at) == '+') {
                at++;
            }
            int start = at;
            String stops = full ? "()\"[]{}:" : "()\"|";
            while (at < text.length() && stops.indexOf(text.charAt(at)) < 0 && isSpace(at) == false) {
                at += text.charAt(at) == '\\' ? 2 : 1;
            }
            at = Math.min(at, text.length());
            if (at == start) {
                at++; // a character that stands for nothing here, such as a closing bracket
                return;
            }
            String word = text.substring(start, at);
            if (full && at < text.length() && text.charAt(at) == ':') {
                at++;
                excluding |= word.endsWith("_exists_");
                return;
            }
            clause(withoutSuffix(word));
        }

        /** One clause has been read; null has no words. */
        private void clause(String found) {
            if (found != null && excluding == false && excludedDepth == 0) {
                String plain = unescaped(found);
                if (plain.codePoints().anyMatch(Character::isLetterOrDigit)) {
                    words.add(plain);
                }
            }
            excluding = false;
        }

        private void open() {
            depth++;
            if (excluding && excludedDepth == 0) {
                excludedDepth = depth;
            }
            excluding = false;
        }

        private void close() {
            if (depth == excludedDepth) {
                excludedDepth = 0;
            }
            depth = Math.max(0, depth - 1);
        }

        /** {@code NOT}, {@code -} or {@code !} before something to exclude. */
        private boolean isNot(char c) {
            if (full && c == 'N') {
                return text.startsWith("NOT", at) && (isSpace(at + 3) || is(at + 3, '('));
            }
            boolean sign = c == '-' || full && c == '!';
            return sign && at + 1 < text.length() && isSpace(at + 1) == false && is(at + 1, ')') == false;
        }

        private int operatorLength(char c) {
            if (full == false) {
                return c == '-' || c == '+' || c == '|' ? 1 : 0;
            }
            for (String word : List.of("AND", "OR")) {
                int end = at + word.length();
                if (text.startsWith(word, at) && (end >= text.length() || isSpace(end) || is(end, '(') || is(end, ')'))) {
                    return word.length();
                }
            }
            if (text.startsWith("&&", at) || text.startsWith("||", at)) {
                return 2;
            }
            boolean sign = "-+!&|".indexOf(c) >= 0;
            boolean beforeWord = at + 1 < text.length() && (isLetter(at + 1) || is(at + 1, '_'));
            return sign && beforeWord == false ? 1 : 0;
        }

        private void range() {
            at++;
            until("[]{}");
            if (is(at, ']') || is(at, '}')) {
                at++;
            }
            if (is(at, '^')) {
                digits(at + 1);
            }
        }

        /** Where the regular expression that begins here ends; -1 when it does not. */
        private int closingSlash() {
            for (int i = at + 1; i < text.length(); i++) {
                if (text.charAt(i) == '\\') {
                    i++;
                } else if (text.charAt(i) == '/') {
                    return i;
                }
            }
            return -1;
        }

        /** Passes over {@code ~2} and {@code ^1.5} after a phrase or a group. */
        private void suffix() {
            while (is(at, '~') || is(at, '^')) {
                digits(at + 1);
            }
        }

        private void digits(int from) {
            at = from;
            while (at < text.length() && (Character.isDigit(text.charAt(at)) || text.charAt(at) == '.')) {
                at++;
            }
        }

        /** Up to one of the stops; a space in them is any white space. */
        private void until(String stops) {
            while (at < text.length() && stops.indexOf(text.charAt(at)) < 0 && (stops.charAt(0) == ' ' && isSpace(at)) == false) {
                at++;
            }
        }

        private boolean is(int index, char c) {
            return index < text.length() && text.charAt(index) == c;
        }

        private boolean isSpace(int index) {
            return index < text.length() && Character.isWhitespace(text.charAt(index));
        }

        private boolean isLetter(int index) {
            return Character.isLetterOrDigit(text.codePointAt(index));
        }
    }

    /** A word without a wildcard, a fuzziness or a boost at its end. */
    private static String withoutSuffix(String word) {
        int end = word.length();
        while (end > 0) {
            int digits = end;
            while (digits > 0 && (Character.isDigit(word.charAt(digits - 1)) || word.charAt(digits - 1) == '.')) {
                digits--;
            }
            char last = word.charAt(end - 1);
            if (last == '*') {
                end--;
            } else if (digits > 0 && (word.charAt(digits - 1) == '~' || word.charAt(digits - 1) == '^')) {
                end = digits - 1;
            } else {
                break;
            }
        }
        return word.substring(0, end);
    }

    private static String unescaped(String text) {
        if (text.indexOf('\\') < 0) {
            return text;
        }
        StringBuilder plain = new StringBuilder(text.length());
        for (int i = 0; i < text.length(); i++) {
            if (text.charAt(i) == '\\' && i + 1 < text.length()) {
                i++;
            }
            plain.append(text.charAt(i));
        }
        return plain.toString();
    }
}

package org.whyrank.opensearch.sidecar;

/** The sidecar's answer is none: not JSON, not of its form, or not of the hits that it was asked for. */
public final class WrongAnswerException extends Exception {
    private static final long serialVersionUID = 1L;

    WrongAnswerException(String message) {
        super(message);
    }
}

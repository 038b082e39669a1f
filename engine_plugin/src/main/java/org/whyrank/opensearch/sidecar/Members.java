package org.whyrank.opensearch.sidecar;

import java.util.List;
import java.util.Map;

import org.whyrank.opensearch.request.Texts;

/** The members of a JSON object that came from outside: each is of its kind, null, or a WrongAnswerException. */
record Members(String place, Map<?, ?> values) {
    /** Throws WrongAnswerException where the value is no object. */
    static Members of(String place, Object value) throws WrongAnswerException {
        if (value instanceof Map<?, ?> values) {
            return new Members(place, values);
        }
        throw new WrongAnswerException(place + " is not an object");
    }

    String text(String name) throws WrongAnswerException {
        String text = of(String.class, name);
        return text == null ? null : Texts.readable(text);
    }

    Integer integer(String name) throws WrongAnswerException {
        return of(Integer.class, name);
    }

    Boolean flag(String name) throws WrongAnswerException {
        return of(Boolean.class, name);
    }

    Double number(String name) throws WrongAnswerException {
        Number number = of(Number.class, name);
        if (number != null && Double.isFinite(number.doubleValue()) == false) {
            throw wrong(name);
        }
        return number == null ? null : number.doubleValue();
    }

    /** Empty where there is none. */
    List<?> list(String name) throws WrongAnswerException {
        List<?> list = of(List.class, name);
        return list == null ? List.of() : list;
    }

    WrongAnswerException wrong(String name) {
        return new WrongAnswerException("[" + name + "] of " + place + " is of another kind");
    }

    private <T> T of(Class<T> type, String name) throws WrongAnswerException {
        Object value = values.get(name);
        if (value != null && type.isInstance(value) == false) {
            throw wrong(name);
        }
        return type.cast(value);
    }
}

package org.whyrank.opensearch.request;

import static org.junit.jupiter.api.Assertions.assertEquals;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class QuerySyntaxTest {
    @ParameterizedTest
    @CsvSource(
        quoteCharacter = '\0',
        delimiter = '|',
        ignoreLeadingAndTrailingWhitespace = true,
        value = {
            "red shoes              | red shoes",
            "+red -blue shoes       | red shoes",
            "red AND (blue OR pink) | red blue pink",
            "red NOT blue           | red",
            "red !blue              | red",
            "red NOT (a b) shoes    | red shoes",
            "-(a (b c) d) shoes     | shoes",
            "title:red body:\"a b\"~2^3 c | red a b c",
            "title:(red shoes)^2    | red shoes",
            "_exists_:title red     | red",
            "price:[1 TO 5} red     | red",
            "price:>=5 red          | red",
            "/re.*gex/ red          | red",
            "a/b                    | a/b",
            "shoe* sho?s^2 rde~1    | shoe sho?s rde",
            "well-known             | well-known",
            "NOTE ANDY ORAL         | NOTE ANDY ORAL",
            "a\\:b \\(c\\)          | a:b (c)",
            "* ?                    | ",
            "\"unfinished business  | unfinished business",
            ")) red                 | red" }
    )
    void readsTheFullSyntax(String query, String words) {
        assertEquals(words == null ? "" : words, QuerySyntax.FULL.words(query));
    }

    @ParameterizedTest
    @CsvSource(
        quoteCharacter = '\0',
        delimiter = '|',
        value = {
            "red + shoes - x  | red shoes x",
            "red -blue shoes  | red shoes",
            "-(a b) \"c d\"~1 | c d",
            "title:red        | title:red",
            "a NOT b          | a NOT b",
            "pre* fuzzy~2     | pre fuzzy" }
    )
    void readsTheSimpleSyntax(String query, String words) {
        assertEquals(words, QuerySyntax.SIMPLE.words(query));
    }

    @Test
    void readsAnyLength() {
        String escapes = "\\a".repeat(200_000);
        assertEquals(200_000, QuerySyntax.FULL.words("\"" + escapes + "\"").length());
        assertEquals("", QuerySyntax.FULL.words("(".repeat(200_000)));
    }
}

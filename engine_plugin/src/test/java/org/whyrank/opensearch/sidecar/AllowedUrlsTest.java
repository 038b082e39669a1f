package org.whyrank.opensearch.sidecar;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.URI;
import java.util.List;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class AllowedUrlsTest {
    @ParameterizedTest
    @CsvSource(
        {
            "http://127.0.0.1:*,      http://127.0.0.1:8080/v1/rescore, true",
            "http://127.0.0.1:*,      http://127.0.0.1/,                true",
            "http://127.0.0.1:*,      https://127.0.0.1:8080/,          false",
            "http://127.0.0.1:*,      http://127.0.0.2:8080/,           false",
            "http://[::1]:*,          http://[::1]:8080/,               true",
            "http://whyrank:8080,     http://WHYRANK:8080/,             true",
            "http://whyrank:8080,     http://whyrank:8081/,             false",
            "http://whyrank,          http://whyrank:80/,               true",
            "https://whyrank,         https://whyrank/,                 true",
            "https://*.example.org,   https://a.example.org/,           true",
            "https://*.example.org,   https://example.org/,             false",
            "https://*.example.org,   https://a.example.org.evil.net/,  false",
            "http://*:8080,           http://anywhere:8080/,            true",
            "http://*:8080,           http://anywhere:80/,              false" }
    )
    void coversWhatAnEntryNames(String entry, String url, boolean covered) {
        assertTrue(new AllowedUrls(List.of(entry)).covers(URI.create(url)) == covered);
    }

    @Test
    void standardIsTheMachineItself() {
        AllowedUrls standard = new AllowedUrls(AllowedUrls.LOOPBACK);
        assertTrue(standard.covers(URI.create("http://localhost:8080/v1/rescore")));
        assertFalse(standard.covers(URI.create("http://169.254.169.254/latest/meta-data")));
    }

    @ParameterizedTest
    @ValueSource(strings = { "whyrank:8080", "ftp://whyrank", "http://", "http://user@whyrank", "http://whyrank:x", "http://a b" })
    void refusesWhatIsNoAddress(String entry) {
        assertTrue(assertThrows(IllegalArgumentException.class, () -> new AllowedUrls(List.of(entry))).getMessage().contains(entry));
    }
}

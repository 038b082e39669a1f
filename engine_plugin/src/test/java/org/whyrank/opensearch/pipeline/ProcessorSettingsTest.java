package org.whyrank.opensearch.pipeline;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.opensearch.OpenSearchParseException;
import org.opensearch.common.xcontent.XContentHelper;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.whyrank.opensearch.request.Mode;

class ProcessorSettingsTest {
    private static Map<String, Object> config(String more) {
        String json = "{'url': 'http://127.0.0.1:8080', 'fields': ['title']" + more + "}";
        return XContentHelper.convertToMap(JsonXContent.jsonXContent, json.replace('\'', '"'), false);
    }

    @Test
    void hasThePolicysStandards() {
        ProcessorSettings settings = ProcessorSettings.read(null, config(""));
        assertEquals("http://127.0.0.1:8080/v1/rescore", settings.url().toString());
        assertEquals(List.of(10, 300, 200), List.of(settings.window(), settings.deadlineMs(), settings.graceMs()));
        assertNull(settings.mode());
        assertTrue(settings.enabled());
    }

    @Test
    void takesAllThatItKnowsAndLeavesTheRest() {
        Map<String, Object> config = new HashMap<>(
            config(
                ", 'window': 50, 'deadline_ms': 0, 'grace_ms': 50, 'mode': 'label', 'query_path': 'ext.ubi.user_query',"
                    + " 'tenant': 'acme', 'enabled': false, 'windw': 5"
            )
        );
        ProcessorSettings settings = ProcessorSettings.read("tag", config);
        assertEquals(Map.of("windw", 5), config, "the engine names what is left");
        assertEquals(Mode.LABEL, settings.mode());
        assertEquals("acme", settings.tenant());
        assertEquals("ext.ubi.user_query", settings.queryPath());
        assertEquals(false, settings.enabled());
    }

    @ParameterizedTest
    @CsvSource(
        {
            "http://h,                  http://h/v1/rescore",
            "http://h/,                 http://h/v1/rescore",
            "https://h:1/behind/,       https://h:1/behind/v1/rescore",
            "http://h/v1/rescore,       http://h/v1/rescore" }
    )
    void addsTheEndpoint(String url, String endpoint) {
        Map<String, Object> config = config("");
        config.put("url", url);
        assertEquals(endpoint, ProcessorSettings.read(null, config).url().toString());
    }

    @ParameterizedTest
    @CsvSource(
        quoteCharacter = '\0',
        delimiter = '|',
        value = {
            "url         | ",
            "url         | 8080",
            "url         | 'whyrank:8080'",
            "url         | 'file:///etc/passwd'",
            "url         | 'http://user:pass@h'",
            "url         | 'http://h/?x=1'",
            "url         | 'http://h h'",
            "fields      | ",
            "fields      | 'title'",
            "fields      | []",
            "fields      | ['']",
            "fields      | [1]",
            "window      | 0",
            "window      | 201",
            "window      | 'x'",
            "deadline_ms | -1",
            "grace_ms    | 0",
            "mode        | 'guess'",
            "tenant      | ''",
            "enabled     | 'perhaps'" }
    )
    void namesThePropertyThatIsWrong(String name, String json) {
        Map<String, Object> config = config("");
        config.remove(name);
        if (json != null) {
            String one = "{\"v\":" + json.replace('\'', '"') + "}";
            config.put(name, XContentHelper.convertToMap(JsonXContent.jsonXContent, one, false).get("v"));
        }
        OpenSearchParseException error = assertThrows(OpenSearchParseException.class, () -> ProcessorSettings.read(null, config));
        assertTrue(error.getMessage().startsWith("[" + name + "] "), error.getMessage());
    }
}

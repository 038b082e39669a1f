package org.whyrank.opensearch.request;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.opensearch.common.io.stream.BytesStreamOutput;
import org.opensearch.common.xcontent.LoggingDeprecationHandler;
import org.opensearch.common.xcontent.json.JsonXContent;
import org.opensearch.core.xcontent.NamedXContentRegistry;
import org.opensearch.core.xcontent.ToXContent;
import org.opensearch.core.xcontent.XContentBuilder;
import org.opensearch.core.xcontent.XContentParser;

class SearchOptionsTest {
    private static SearchOptions parse(String json) throws IOException {
        try (
            XContentParser parser = JsonXContent.jsonXContent.createParser(
                NamedXContentRegistry.EMPTY,
                LoggingDeprecationHandler.INSTANCE,
                json
            )
        ) {
            return SearchOptions.fromXContent(parser);
        }
    }

    @Test
    void survivesTheWireAndJson() throws IOException {
        String json = "{\"query\":\"q\",\"enabled\":true,\"explain\":false,\"window\":20,\"deadline_ms\":0,\"mode\":\"label\","
            + "\"ranking\":\"r\",\"tenant\":\"t\",\"user\":\"u\"}";
        SearchOptions options = parse(json);
        assertEquals(Mode.LABEL, options.mode());
        assertEquals(0, options.deadlineMs());
        try (BytesStreamOutput out = new BytesStreamOutput(); XContentBuilder written = JsonXContent.contentBuilder()) {
            options.writeTo(out);
            assertEquals(options, new SearchOptions(out.bytes().streamInput()));
            options.toXContent(written.startObject(), ToXContent.EMPTY_PARAMS).endObject();
            assertEquals("{\"whyrank\":" + json + "}", written.toString());
        }
    }

    @Test
    void whatIsNotSaidIsNull() throws IOException {
        SearchOptions options = parse("{}");
        assertNull(options.query());
        assertNull(options.enabled());
        assertEquals(new SearchOptions(), options);
    }

    @ParameterizedTest
    @CsvSource(
        quoteCharacter = '\0',
        delimiter = '|',
        value = {
            "{'windw': 5}           | windw",
            "{'window': 0}          | window",
            "{'window': 201}        | window",
            "{'deadline_ms': -1}    | deadline_ms",
            "{'deadline_ms': 60001} | deadline_ms",
            "{'mode': 'guess'}      | mode",
            "{'enabled': 'perhaps'} | enabled",
            "{'tenant': ' '}        | tenant",
            "{'query': {}}          | query" }
    )
    void namesTheOptionThatIsWrong(String json, String name) {
        Exception error = assertThrows(Exception.class, () -> parse(json.replace('\'', '"')));
        assertTrue(error.getMessage().contains(name), error.getMessage());
    }
}

package org.whyrank.opensearch.pipeline;

import java.util.List;
import java.util.function.Supplier;

import org.opensearch.ExceptionsHelper;
import org.opensearch.action.ActionRequest;
import org.opensearch.action.search.SearchAction;
import org.opensearch.action.search.SearchRequest;
import org.opensearch.action.search.SearchResponse;
import org.opensearch.action.support.ActionFilter;
import org.opensearch.action.support.ActionFilterChain;
import org.opensearch.action.support.ActionRequestMetadata;
import org.opensearch.cluster.service.ClusterService;
import org.opensearch.common.util.concurrent.ThreadContext;
import org.opensearch.core.action.ActionListener;
import org.opensearch.core.action.ActionResponse;
import org.opensearch.core.rest.RestStatus;
import org.opensearch.tasks.Task;
import org.opensearch.transport.client.Client;

/**
 * A search that the engine refuses once it is widened runs again as the application sent it.
 *
 * <p>A document beyond the user's page may be one that the engine cannot highlight, or that a script fails on. Whether it
 * is the user's request that is wrong, or ours, the engine shall say.
 */
public final class SecondChance implements ActionFilter {
    /** How one search fares; it is in the context of the thread that plans it. */
    static final class Attempt {
        private static final String KEY = "whyrank.attempt";

        private final boolean second;
        private volatile boolean widened;

        private Attempt(boolean second) {
            this.second = second;
        }

        /** That of this thread's search; null where a search did not come through the filter. */
        static Attempt in(ThreadContext context) {
            return context.getTransient(KEY);
        }

        /** Whether the engine has refused the search once, widened. */
        boolean second() {
            return second;
        }

        void widened() {
            widened = true;
        }
    }

    private final Client client;
    private final ClusterService cluster;
    private final ThreadContext context;

    public SecondChance(Client client, ClusterService cluster, ThreadContext context) {
        this.client = client;
        this.cluster = cluster;
        this.context = context;
    }

    @Override
    public int order() {
        return Integer.MAX_VALUE; // after whatever may refuse the search, or change it, for reasons of its own
    }

    @Override
    public <Q extends ActionRequest, R extends ActionResponse> void apply(
        Task task,
        String action,
        Q request,
        ActionRequestMetadata<Q, R> metadata,
        ActionListener<R> listener,
        ActionFilterChain<Q, R> chain
    ) {
        Attempt under = Attempt.in(context);
        if (SearchAction.NAME.equals(action) == false || under != null && under.second) {
            chain.proceed(task, action, request, listener);
            return;
        }
        Attempt attempt = new Attempt(false);
        Supplier<ThreadContext.StoredContext> callers = context.newRestorableContext(false);
        try (ThreadContext.StoredContext ignored = context.newStoredContext(true, List.of(Attempt.KEY))) {
            context.putTransient(Attempt.KEY, attempt);
            chain.proceed(task, action, request, ActionListener.wrap(listener::onResponse, error -> {
                if (attempt.widened && ExceptionsHelper.status(error) == RestStatus.BAD_REQUEST) {
                    again(task, (SearchRequest) request, listener, callers);
                } else {
                    listener.onFailure(error);
                }
            }));
        }
    }

    @SuppressWarnings("unchecked") // the action is a search, and what it answers is a search's
    private <R extends ActionResponse> void again(
        Task task,
        SearchRequest request,
        ActionListener<R> listener,
        Supplier<ThreadContext.StoredContext> callers
    ) {
        SearchRequest copy = new SearchRequest(request).pipeline(request.pipeline());
        copy.setParentTask(cluster.localNode().getId(), task.getId()); // whoever cancels the one cancels the other
        try (
            ThreadContext.StoredContext restored = callers.get();
            ThreadContext.StoredContext ignored = context.newStoredContext(true, List.of(Attempt.KEY))
        ) {
            context.putTransient(Attempt.KEY, new Attempt(true));
            client.search(copy, (ActionListener<SearchResponse>) listener);
        }
    }
}

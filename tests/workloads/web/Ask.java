// The JDK's HttpClient: REQUESTS CONCURRENCY PACE_MS URL…, so many of each URL by so many threads. With a pace, one
// after the other, each so long after the one before began; prints how long each took, in ms.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

public class Ask {
    private static final HttpClient CLIENT =
        HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    public static void main(String[] words) throws Exception {
        int requests = Integer.parseInt(words[0]);
        int width = Integer.parseInt(words[1]);
        long pace = Long.parseLong(words[2]);
        ExecutorService threads = Executors.newFixedThreadPool(width);
        for (String url : List.of(words).subList(3, words.length)) {
            if (pace > 0) {
                paced(url, requests, pace);
                continue;
            }
            List<Callable<Void>> work = new ArrayList<>();
            for (int i = 0; i < requests; i++) {
                work.add(() -> once(url));
            }
            for (Future<Void> done : threads.invokeAll(work)) {
                done.get();
            }
        }
        threads.shutdown();
    }

    private static void paced(String url, int requests, long pace) throws Exception {
        long due = System.nanoTime();
        for (int i = 0; i < requests; i++) {
            due += pace * 1_000_000;
            Thread.sleep(Math.max(0, (due - System.nanoTime()) / 1_000_000));
            long begin = System.nanoTime();
            once(url);
            System.out.println((System.nanoTime() - begin) / 1e6);
        }
    }

    private static Void once(String url) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url)).build();
        int status = CLIENT.send(request, BodyHandlers.ofByteArray()).statusCode();
        if (status != 200) {
            throw new IllegalStateException(url + ": " + status);
        }
        return null;
    }
}

// A server of the JDK's own classes: GET /…/size/N answers N bytes, POST what it got, else 404. Given its port.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.util.Arrays;
import java.util.concurrent.Executors;

public class Sizes {
    public static void main(String[] words) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(Integer.parseInt(words[0])), 1024);
        server.createContext("/", Sizes::answer);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.start();
    }

    private static void answer(HttpExchange exchange) throws IOException {
        String[] path = exchange.getRequestURI().getPath().split("/");
        byte[] got = exchange.getRequestBody().readAllBytes();
        int status = 200;
        byte[] body = got;
        if (!exchange.getRequestMethod().equals("POST")) {
            boolean known = path.length > 2 && path[path.length - 2].equals("size");
            status = known ? 200 : 404;
            body = new byte[known ? Integer.parseInt(path[path.length - 1]) : 13];
            Arrays.fill(body, (byte) 'x');
        }
        exchange.sendResponseHeaders(status, body.length == 0 ? -1 : body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}

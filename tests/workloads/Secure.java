// A server of the JDK's own classes, in the clear and over TLS: GET /…/size/N answers N bytes. Given a keystore
// and its password; says `ready`, and the ports of both that it got.

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.sun.net.httpserver.HttpsConfigurator;
import com.sun.net.httpserver.HttpsServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.util.concurrent.Executors;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;

public class Secure {
    public static void main(String[] words) throws Exception {
        InetSocketAddress any = new InetSocketAddress("127.0.0.1", 0);
        HttpServer clear = HttpServer.create(any, 1024);
        HttpsServer secure = HttpsServer.create(any, 1024);
        secure.setHttpsConfigurator(new HttpsConfigurator(context(words[0], words[1].toCharArray())));
        for (HttpServer server : new HttpServer[] {clear, secure}) {
            server.createContext("/", Secure::answer);
            server.setExecutor(Executors.newFixedThreadPool(8));
            server.start();
        }
        System.out.println("ready " + clear.getAddress().getPort() + " " + secure.getAddress().getPort());
    }

    private static SSLContext context(String file, char[] password) throws Exception {
        KeyStore keys = KeyStore.getInstance("PKCS12");
        try (InputStream stream = Files.newInputStream(Path.of(file))) {
            keys.load(stream, password);
        }
        KeyManagerFactory managers = KeyManagerFactory.getInstance("SunX509");
        managers.init(keys, password);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(managers.getKeyManagers(), null, null);
        return context;
    }

    private static void answer(HttpExchange exchange) throws IOException {
        String path = exchange.getRequestURI().getPath();
        byte[] body = "x".repeat(Integer.parseInt(path.substring(path.lastIndexOf('/') + 1))).getBytes();
        exchange.sendResponseHeaders(200, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }
}

"""A client with BoringSSL (curl_cffi, from the directory PACKAGE): asks for URL COUNT times on each of WIDTH
kept connections."""

import sys
import threading
import time

package, url, count, width = sys.argv[1:]
sys.path.insert(0, package)

from curl_cffi import CurlHttpVersion, requests  # noqa: E402

# A library that comes is covered within that.
time.sleep(0.1)
failed = []


def ask():
    with requests.Session() as session:
        for _ in range(int(count)):
            answer = session.get(url, verify=False, http_version=CurlHttpVersion.V1_1)
            if answer.status_code != 200:
                failed.append(answer.status_code)


threads = [threading.Thread(target=ask) for _ in range(int(width))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
sys.exit(str(failed) if failed else 0)

import Foundation
import Glibc
import LinuxSystem
import Testing

@Suite("A server that moves with its clients connected", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct ServerProgramTests {
    @Test("is redis-server: same process, data, clients, open transaction, waiting client and subscriber")
    func redis() async throws {
        try await ClusterFixture.with { cluster in
            let options = "--bind 0.0.0.0 --protected-mode no --appendonly yes --dir /var/lib/redis"
            try await cluster.launch("alice", image: "apps", ["sh", "-c", "exec redis-server \(options)"])
            let client = try await LabClient(cluster, on: cluster.hosts[0], to: "alice", port: 6379)
            let busy = try await LabClient(cluster, on: cluster.hosts[1], to: "alice", port: 6379)
            let waiting = try await LabClient(cluster, on: cluster.hosts[0], to: "alice", port: 6379)
            let subscriber = try await LabClient(cluster, on: cluster.hosts[1], to: "alice", port: 6379)
            let fill = "for i=1,2000 do redis.call('SET','key'..i,redis.sha1hex(i)) end return 1"
            #expect(try await client.ask("EVAL \"\(fill)\" 0\r\n", until: "\r\n") == ":1\r\n")
            let digest = "local s='' for i=1,2000 do s=redis.sha1hex(s..redis.call('GET','key'..i)) end return s"
            let identity = "return redis.call('INFO','server'):gsub('.*process_id:(%d+).*run_id:(%w+).*','%1 %2')"
            let look = ["EVAL \"\(digest)\" 0", "EVAL \"\(identity)\" 0", "CLIENT ID", "DBSIZE"]
            let before = try await ask(client, look)
            _ = try await subscriber.ask("SUBSCRIBE news\r\n", until: ":1\r\n")
            let flag = Flag()
            async let counted = count(busy, until: flag)
            defer { flag.raise() }
            for (round, host) in [1, 0, 1].map({ cluster.hosts[$0] }).enumerated() {
                #expect(
                    try await client.ask("MULTI\r\nSET round \(round)\r\n", until: "+QUEUED\r\n")
                        == "+OK\r\n+QUEUED\r\n"
                )
                try await waiting.send("BLPOP queue 0\r\n")
                try await cluster.smirun.handOff("alice", to: host)
                #expect(
                    try await client.ask("GET round\r\nEXEC\r\n", until: "\r\n\(round)\r\n").contains("*2\r\n+OK\r\n")
                )
                #expect(try await ask(client, look.dropLast()) == Array(before.dropLast()))
                #expect(try await client.ask("RPUSH queue item\(round)\r\n", until: "\r\n") == ":1\r\n")
                #expect(try await waiting.receive(until: "item\(round)\r\n").hasPrefix("*2\r\n$5\r\nqueue\r\n"))
                #expect(try await client.ask("PUBLISH news \(round)\r\n", until: "\r\n") == ":1\r\n")
                _ = try await subscriber.receive(until: "message\r\n$4\r\nnews\r\n$1\r\n\(round)\r\n")
            }
            flag.raise()
            #expect(try await counted > 0)
            let check = "redis-check-aof /var/lib/redis/appendonlydir/*.manifest | tail -n 1"
            #expect(try await cluster.smirun.shell("alice", check).contains("valid"))
        }
    }

    /// Increments a number as fast as it goes; every answer must be the next number.
    private func count(_ client: LabClient, until flag: Flag) async throws -> Int {
        var number = 0
        while !flag.isRaised {
            number += 1
            let answer = try await client.ask("INCR counter\r\n", until: "\r\n")
            guard answer == ":\(number)\r\n" else { throw Silence(cause: "instead of \(number) came \(answer)") }
        }
        return number
    }

    private func ask(_ client: LabClient, _ questions: some Sequence<String>) async throws -> [String] {
        var answers: [String] = []
        for question in questions {
            var answer = try await client.ask(question + "\r\n", until: "\r\n")
            if answer.hasPrefix("$") { answer = try await client.receive(until: "\r\n") }
            answers.append(answer)
        }
        return answers
    }

    private static let configuration = """
        worker_processes 2;
        events { worker_connections 64; }
        http {
            keepalive_timeout 600;
            keepalive_requests 1000000;
            server {
                listen 80;
                root /srv;
                location = /who { return 200 "$pid $connection $connection_requests\\n"; }
            }
        }
        """

    @Test("is nginx: same processes, kept-alive connections, a request half sent and a file half received")
    func nginx() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice", image: "apps")
            try await smirun.expect(
                "exec",
                "alice",
                "--",
                "sh",
                "-c",
                "cat > /etc/nginx/test.conf && seq 3000000 > /srv/big && nginx -c /etc/nginx/test.conf",
                input: Self.configuration
            )
            let file = Array((1...3_000_000).map { "\($0)\n" }.joined().utf8)
            let processes = "pgrep nginx | sort -n; ps -o user= -C nginx | sort"
            let before = try await smirun.shell("alice", processes)
            let clients = try await [
                LabClient(cluster, on: cluster.hosts[0], to: "alice", port: 80),
                LabClient(cluster, on: cluster.hosts[1], to: "alice", port: 80),
            ]
            let reader = try await LabClient(cluster, on: cluster.hosts[1], to: "alice", port: 80)
            var known: [[String]] = []
            for client in clients { known.append(try await who(client)) }
            for (round, host) in [1, 0, 1].map({ cluster.hosts[$0] }).enumerated() {
                try await clients[0].send("GET /who HTTP/1.1\r\nHo")
                _ = try await reader.ask("GET /big HTTP/1.1\r\nHost: alice\r\n\r\n", until: "\r\n\r\n")
                let part = try await reader.receive(count: 1 << 20)
                try await smirun.handOff("alice", to: host)
                let rest = try await reader.receive(count: file.count - part.count)
                let isWhole = part + rest == file
                #expect(isWhole, "the file arrived otherwise than it is")
                for (index, client) in clients.enumerated() {
                    let answer = try await who(client, sent: index == 0 ? "GET /who HTTP/1.1\r\nHo".count : 0)
                    #expect(answer == [known[index][0], known[index][1], "\(round + 2)"])
                }
                #expect(try await smirun.shell("alice", processes) == before)
            }
            // New clients are served by the same workers.
            #expect(try await who(LabClient(cluster, on: cluster.hosts[0], to: "alice", port: 80)).last == "1")
        }
    }

    /// The worker, the connection's number, and how many requests it has had, as nginx sees it.
    private func who(_ client: LabClient, sent: Int = 0) async throws -> [String] {
        let head = try await client.ask(
            String("GET /who HTTP/1.1\r\nHost: alice\r\n\r\n".dropFirst(sent)),
            until: "\r\n\r\n"
        )
        #expect(head.hasPrefix("HTTP/1.1 200"), "\(head)")
        return try await client.receive(until: "\n").split(whereSeparator: \.isWhitespace).map(String.init)
    }
}

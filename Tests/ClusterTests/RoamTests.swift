import Foundation
import Glibc
import LinuxSystem
import Orchestrator
import Testing

@Suite("A machine that follows its user", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct RoamTests {
    @Test("goes to each access point's host and says where replicas should be")
    func walk() async throws {
        try await ClusterFixture.with(hosts: 3) { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            for (ap, host) in zip(["ap1", "ap2", "ap3"], cluster.hosts) {
                try await smirun.expect("roam", "alice", ap)
                try await cluster.arrives("alice", at: host)
            }
            let plan = try await cluster.plan("alice", at: "ap3")
            let previous = try #require(plan.replicas.first { $0.host == cluster.hosts[1] })
            #expect(previous.why.contains("the user was there last"))
            #expect(try await smirun.expect("inspect", "alice").contains("the user was there last"))
        }
    }

    @Test("stays where it is while its user flaps between two access points")
    func flap() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            // What makes a flap are the times of the associations, however long the machine takes to be told of them.
            var time = Date().timeIntervalSince1970.rounded() - 60
            func roam(_ ap: String) async throws {
                time += 2
                try await smirun.expect("roam", "alice", ap, "--at", "\(time)")
            }
            try await roam("ap1")
            try await roam("ap2")
            try await cluster.arrives("alice", at: cluster.hosts[1])
            let generation = try await smirun.inspect("alice").generation
            for _ in 0..<3 {
                try await roam("ap1")
                try await roam("ap2")
            }
            #expect(try await cluster.plan("alice", at: "ap2").holdHandoff)
            // Longer than a user has to stay to be believed.
            try await Task.sleep(for: .seconds(4))
            #expect(try await smirun.inspect("alice").generation == generation)
            #expect(try await smirun.expect("events", "alice").contains("held"))
        }
    }

    @Test("is moved by RADIUS accounting that reaches another host, and its hand-offs are told to subscribers")
    func radius() async throws {
        try await ClusterFixture.with(hosts: 3) { cluster in
            let callback = try NoticeCatcher(cluster, on: cluster.hosts[0])
            defer { callback.close() }
            try await cluster.configure(
                cluster.hosts[0],
                "[mec]\n[[mec.subscribers]]\nurl = \"http://127.0.0.1:8099/cgi-bin/amsi\"\n"
            )
            try await cluster.configure(
                cluster.hosts[1],
                "[radius]\nlisten = \"127.0.0.1:1813\"\n[[radius.clients]]\naddress = \"127.0.0.1\"\nsecret = \"lab\"\n"
            )
            try await cluster.launch("alice")
            try await cluster.account("Start", at: "ap3", on: cluster.hosts[1], secret: "wrong", answered: false)
            try await cluster.account("Start", at: "ap3", on: cluster.hosts[1])
            try await cluster.arrives("alice", at: cluster.hosts[2])
            try await callback.expect(["\"mobilityStatus\":1", "\"mobilityStatus\":2", "\"type\":1", "10.77.0.3"])

            // What is heard while the host that decides is away waits for it.
            let lab = cluster.lab
            _ = try await offload { try lab.kill(cluster.hosts[0]) }
            try await cluster.account("Start", at: "ap2", on: cluster.hosts[1])
            try await cluster.arrives("alice", at: cluster.hosts[1])
        }
    }

    @Test("follows a trace that is played back, and bad input is told with a remedy")
    func replay() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            let trace = cluster.lab.layout.state + "/trace.csv"
            let good =
                "day,t_s,user,ap,event,rssi_dbm\n0,10,alice,ap1,start,-60\n0,11,bob,ap1,start,-60\n0,40,alice,ap2,roam,-61\n"
            try good.write(toFile: trace, atomically: true, encoding: .utf8)
            let output = try await smirun.expect("roam", "--replay", trace, "--speed", "20")
            #expect(output.hasPrefix("3 lines played; 1 of its users"))
            try await cluster.arrives("alice", at: cluster.hosts[1])

            try (good + "0,50,alice,ap9,roam,-60\n").write(toFile: trace, atomically: true, encoding: .utf8)
            #expect(try await smirun.refused("roam", "--replay", trace, "--speed", "0").contains("ap9"))
            try (good + "0,fifty,alice,ap1,roam,-60\n").write(toFile: trace, atomically: true, encoding: .utf8)
            #expect(try await smirun.refused("roam", "--replay", trace, "--speed", "0").contains("line 5"))
            #expect(try await smirun.refused("roam", "--replay", "/no/such").contains("/no/such"))
            #expect(try await smirun.refused("roam", "alice", "ap9").contains("no access point ap9"))
            let counts = try await smirun.expect("ap", "counts", "-o", "json")
            #expect(counts.contains("\"unknown_access_points\":0") && counts.contains("\"events\":"), "\(counts)")
            #expect(try await smirun.refused("roam", "bob", "ap1").contains("bob"))
            #expect(
                try await smirun.refused("roam", "alice", "ap1", "--at", "99999999999", status: 2).contains(
                    "yet to come"
                )
            )
            _ = try await smirun.refused("roam", "alice", status: 2)
            _ = try await smirun.refused("roam", "alice", "ap1", "--at", "noon", status: 2)
        }
    }

    @Test("access points come from CSV and GeoJSON, in metres, degrees or without a place")
    func imports() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            let file = cluster.lab.layout.state + "/map"
            func take(_ text: String) throws { try text.write(toFile: file, atomically: true, encoding: .utf8) }
            let hosts = cluster.hosts
            try take("ap,host,zone,x_m,y_m\nhall,\(hosts[0]),east,1.5,2\n\(hosts[1]),,,,\n")
            try await smirun.expect("ap", "import", file)
            let table = try await smirun.expect("ap", "ls")
            #expect(table.contains("1.5, 2.0 m") && table.contains("east"))
            let rows = try JSONDecoder().decode(
                [AccessPointView].self,
                from: Data(try await smirun.expect("ap", "ls", "-o", "json").utf8)
            )
            #expect(rows.first { $0.ap == hosts[1] }?.host == hosts[1], "without a host it is the host of its own name")

            try take("ap,lat,lon,host\nyard,48.1,11.5,\(hosts[0])\n")
            #expect(try await smirun.refused("ap", "import", file, status: 2).contains("cannot be put on one map"))
            try take("ap,x_m,y_m,host\n\nyard,48.1,east,\(hosts[0])\n")
            #expect(try await smirun.refused("ap", "import", file).contains("line 3"))
            try take("ap,host\nyard,nowhere\n")
            #expect(try await smirun.refused("ap", "import", file).contains("nowhere"))
            #expect(try await smirun.refused("ap", "import", "/no/such", status: 2).contains("/no/such"))
            try take("{\"type\":\"FeatureCollection\",\"features\":[")
            #expect(try await smirun.refused("ap", "import", file).contains("GeoJSON"))

            let features = ["ap1", "ap2", "hall", hosts[1]].enumerated().map { index, name in
                """
                {"type":"Feature","geometry":{"type":"Point","coordinates":[11.5\(index),48.1]},\
                "properties":{"ap":"\(name)","host":"\(hosts[0])","zone":"campus"}}
                """
            }
            try take("{\"type\":\"FeatureCollection\",\"features\":[\(features.joined(separator: ","))]}")
            try await smirun.expect("ap", "import", file)
            #expect(try await smirun.expect("ap", "ls").contains("48.1, 11.51"))
        }
    }
}

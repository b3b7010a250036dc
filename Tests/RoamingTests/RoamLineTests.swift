import Testing

@testable import Mobility

@Suite struct RoamLineTests {
    private func parse(_ text: String) -> (lines: [RoamLine], malformed: Int) {
        var parser = RoamLineParser()
        let lines = text.utf8.split(separator: 0x0a, omittingEmptySubsequences: false).compactMap { parser.parse($0) }
        return (lines, parser.malformed)
    }

    @Test func readsTheTraceFormat() {
        let (lines, malformed) = parse(
            "day,t_s,user,ap,event,rssi_dbm\n0,57,u0152,431,start,-81\n1,61.5,u0152,453,roam,\n"
        )
        #expect(malformed == 0)
        #expect(
            lines == [
                RoamLine(user: "u0152", ap: "431", time: 57, day: 0, kind: .start, rssi: -81),
                RoamLine(user: "u0152", ap: "453", time: 61.5, day: 1, kind: .roam),
            ]
        )
        #expect(lines[1].absoluteTime == 86_461.5)
    }

    @Test func columnsMayComeInAnyOrderAndWindowsEnds() {
        let (lines, malformed) = parse("\u{feff}AP,User,station\r\nnorth,ann,02-00-00-00-05-01\r\n\r\n")
        #expect(malformed == 0)
        #expect(lines == [RoamLine(user: "ann", ap: "north", station: "02-00-00-00-05-01")])
        #expect(lines[0].event(received: 7).station == "02:00:00:00:05:01")
        #expect(lines[0].event(received: 7).time == 7)
    }

    @Test func readsJSONLines() {
        let text =
            #"{"user":"ann","ap":"north","t":5,"event":"stop","rssi":-60.4}"# + "\n"
            + #"{"user":"ann","ap":"south","time":6.5,"day":2,"station":"x"}"#
        let (lines, malformed) = parse(text)
        #expect(malformed == 0)
        #expect(
            lines == [
                RoamLine(user: "ann", ap: "north", time: 5, kind: .stop, rssi: -60),
                RoamLine(user: "ann", ap: "south", time: 6.5, day: 2, station: "x"),
            ]
        )
    }

    @Test func skipsAndCountsWhatIsMalformed() {
        let (lines, malformed) = parse(
            "day,t_s,user,ap,event,rssi_dbm\n0,x,u1,1,start,-81\n0,1,,1,start,\n0,1,U1,1,start,\n0,1,u1,1,jump,\n0,nan,u1,1,roam,\n"
                + "0.5,1,u1,1,roam,\n0,1,u1,1,roam,9e99\n0,1\n0,1,u1,1,roam,-5\n0,1e300,u1,1,roam,\n"
        )
        #expect(lines.count == 1)
        #expect(malformed == 9)
        #expect(parse("a,b\n1,2\n").malformed == 2)
        #expect(parse("{\"user\":\"ann\"}\n{]\n{\"user\":1,\"ap\":\"x\"}").malformed == 3)
        #expect(parse("{" + String(repeating: "x", count: 10_000)).malformed == 1)
    }

    @Test func survivesRandomBytes() {
        var random = SplitMix(state: 11)
        let seeds = ["user,ap,t\nann,north,5\n", #"{"user":"ann","ap":"north","t":5}"#].map { Array($0.utf8) }
        for round in 0..<50_000 {
            var bytes = seeds[round % 2]
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            var parser = RoamLineParser()
            for line in bytes.split(separator: 0x0a) { _ = parser.parse(line)?.event(received: 0) }
        }
    }
}

@Suite struct RoamReplayTests {
    /// Gives a text in chunks of a size.
    private func chunks(of text: String, _ size: Int) -> () -> [UInt8] {
        var rest = Array(text.utf8)[...]
        return {
            defer { rest = rest.dropFirst(size) }
            return Array(rest.prefix(size))
        }
    }

    @Test(arguments: [1, 2, 7, 1000])
    func chunksAreNoBoundaries(_ size: Int) async throws {
        var seen: [RoamLine] = []
        let text = "t,user,ap\n1,ann,a\n2,ann,b\n3,bob,c"
        let summary = try await RoamReplay(speed: .infinity).run(read: chunks(of: text, size), name: "t") {
            seen.append($0)
        }
        #expect(seen.map(\.ap) == ["a", "b", "c"])
        #expect(summary == RoamReplay.Summary(lines: 3))
    }

    @Test func linesAreSpacedAsTheirTimesAre() async throws {
        let start = ContinuousClock.now
        let text = "t,user,ap\n100,ann,a\n120,ann,b\n130,ann,c\n"
        let summary = try await RoamReplay(speed: 100).run(read: chunks(of: text, 64), name: "t") { _ in }
        #expect(summary.lines == 3)
        #expect(ContinuousClock.now - start >= .milliseconds(300))
    }

    @Test func cancellationEndsAReplay() async throws {
        let task = Task { [text = "t,user,ap\n0,ann,a\n86400,ann,b\n"] in
            try await RoamReplay(speed: 1).run(read: chunks(of: text, 64), name: "t") { _ in }
        }
        try await Task.sleep(for: .milliseconds(50))
        task.cancel()
        #expect(try await task.value.lines == 1)
    }

    @Test func errorsNameCauseAndRemedy() async throws {
        await #expect(throws: RoamingError.self) { try await RoamReplay().run(file: "/nonexistent/trace.csv") { _ in } }
        await #expect(throws: RoamingError.self) {
            try await RoamReplay().run(read: chunks(of: "x,y\n1,2\n", 64), name: "t") { _ in }
        }
        await #expect(throws: RoamingError.self) {
            var isRead = false
            _ = try await RoamReplay().run(
                read: {
                    defer { isRead = true }
                    return isRead ? [] : [0x1f, 0x8b, 8, 0]
                },
                name: "t.gz",
                sink: { _ in }
            )
        }
    }
}

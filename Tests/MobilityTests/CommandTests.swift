import Foundation
import Testing

@testable import Mobility

@Suite struct CommandTests {
    private struct Collected: ByteSink {
        var writes: [[UInt8]] = []
        mutating func write(_ bytes: [UInt8]) throws(MobilityError) { writes.append(bytes) }
        var text: String { String(decoding: writes.joined(), as: UTF8.self) }
    }

    private func run(_ pieces: [String], leads: [Double] = [5]) throws -> (Collected, [String]) {
        var source = ArraySource(pieces.map { Array($0.utf8) })
        var sink = Collected()
        var told: [String] = []
        try MobilityCommands.predict(
            aps: Array("ap,x_m,y_m\n1,0,0\n2,50,0\n3,100,0\n4,0,50\n".utf8),
            leads: leads,
            replicas: 2,
            input: &source,
            output: &sink
        ) { told.append($0) }
        return (sink, told)
    }

    @Test func answersEachAssociationInTheContractsWords() throws {
        let (sink, told) = try run(
            ["day,t_s,user,ap,event,rssi_dbm\n0,53,u\"1,1,start,-75\n0,60.50,u\"1,2,roam,-80\n0,70,u\"1,2,stop,0\n"],
            leads: [5, 2.5]
        )
        let lines = sink.text.split(separator: "\n")
        #expect(lines.count == 2)
        #expect(told.isEmpty)
        #expect(lines[0].hasPrefix(#"{"user":"u\"1","day":0,"t":53,"ap":"1","next":[{"ap":""#))
        #expect(lines[1].contains(#""t":60.50,"#))
        for line in lines {
            let object = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            let next = try #require(object["next"] as? [[String: Any]])
            #expect(next.allSatisfy { $0["ap"] is String && $0["p"] is Double && $0["eta_s"] is Double })
            let replicas = try #require(object["replicas"] as? [String: [String]])
            #expect(Set(replicas.keys) == ["5", "2.5"])
            #expect(replicas.values.allSatisfy { $0.count == 2 })
        }
    }

    @Test func answersBeforeItReadsOn() throws {
        let (sink, _) = try run(["0,1,u,1,start,-70\n", "0,9,u,2,ro", "am,-70\n", "0,20,u,3,roam,-70"])
        #expect(sink.writes.count == 3)
        #expect(sink.writes.allSatisfy { $0.last == UInt8(ascii: "\n") })
    }

    @Test func passesOverMalformedLinesAndSaysSoOnce() throws {
        let bad = [
            "x", "0,nan,u,1,roam,-1", "0,1,,1,roam,0", "0,1,u,1,jump,0", ",,,,,,,,,,,,,,,,", "0,1e400,u,1,roam,0",
        ]
        let (sink, told) = try run(["0,1,u,1,start,-70\r\n" + bad.joined(separator: "\n") + "\n\n0,5,u,2,roam,\n"])
        #expect(sink.text.split(separator: "\n").count == 2)
        #expect(told.count == 2)
        #expect(told.last?.hasPrefix("6 of ") == true)
    }

    @Test func anEndlessLineCostsNoMemory() throws {
        let long = String(repeating: "a", count: 1 << 17)
        let (sink, told) = try run([long, long, "\n0,5,u,2,roam,-70\n"])
        #expect(sink.text.split(separator: "\n").count == 1)
        #expect(!told.isEmpty)
    }

    @Test func whatIsSaidDoesNotDependOnWhatFollows() throws {
        let lines = SyntheticNetwork.records(users: 4, days: 2, seed: 9).map {
            "\($0.day ?? 0),\(Int($0.time)),\($0.user),\($0.ap),\($0.kind.rawValue),\($0.rssi ?? 0)\n"
        }
        let (whole, _) = try run([lines.joined()])
        let (half, _) = try run([lines.prefix(lines.count / 2).joined()])
        #expect(whole.text.hasPrefix(half.text))
    }

    @Test func readsWhatGzipWrote() throws {
        // `printf 'hello hello hello hello\n' | gzip -n`
        let bytes = try #require(Data(base64Encoded: "H4sIAAAAAAAAA8tIzcnJV8hAJ7kAAIhZCxgAAAA="))
        let text = try? Inflate.gunzip(Array(bytes))
        #expect(text.map { String(decoding: $0, as: UTF8.self) } == "hello hello hello hello\n")
        var damaged = Array(bytes)
        damaged[damaged.count - 6] ^= 1
        #expect(throws: MobilityError.self) { try Inflate.gunzip(damaged) }
    }

    @Test func drawsAPlotWithEveryPredictor() {
        let records = SyntheticNetwork.records(users: 8, days: 4, seed: 2)
        let data = MobilityDataSet(name: "a<b", map: SyntheticNetwork.map(), records: records)
        let evaluation = MobilityEvaluator.evaluate(data)
        let svg = EvaluationReport.svg([evaluation])
        #expect(svg.hasPrefix("<svg") && svg.hasSuffix("</svg>\n"))
        #expect(svg.contains("a&lt;b"))
        let table = EvaluationReport.table([evaluation])
        for score in evaluation.scores {
            #expect(svg.contains(score.name))
            #expect(table.contains(score.name))
        }
    }
}

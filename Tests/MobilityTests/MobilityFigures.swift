import Foundation
import Testing

@testable import Mobility

private let figuresAreWanted = ProcessInfo.processInfo.environment["SMIRUN_FIGURES"] != nil
private let recordedData = ProcessInfo.processInfo.environment["SMIRUN_MOBILITY_DATA"]

/// Figures, printed; docs/mobility.md says how to get them again.
@Suite("Figures of the predictor", .serialized, .enabled(if: figuresAreWanted, "SMIRUN_FIGURES is not set"))
struct MobilityFigures {
    @Test("hold under 2 kB of memory per user at a million users with full histories, and no more with further ones")
    func memoryPerUser() throws {
        let users = 1_000_000
        let predictor = Predictor(map: SyntheticNetwork.map())
        let limit = predictor.core.configuration.historyLimit
        // Everybody's history grows as `learn` lets it, all at the same pace: the worst case for the allocator.
        func meet(_ range: Range<Int>) {
            var capacity = 16
            while true {
                for number in range {
                    let name = "user-\(number)"
                    if capacity == 16 {
                        predictor.learn(
                            RoamingRecord(time: Double(number) / 100, user: name, ap: "ap\(number % 144)", kind: .start)
                        )
                    }
                    let place = predictor.core.directory.number(of: name).number
                    predictor.core.users[place].history.reserveCapacity(capacity)
                    while predictor.core.users[place].history.count < capacity {
                        predictor.core.users[place].history.append(UInt32(number & 127))
                    }
                }
                if capacity == limit { return }
                capacity = min(capacity * 2, limit)
            }
        }
        meet(0..<1000)
        let before = try Self.residentBytes()
        meet(1000..<users)
        let full = try Self.residentBytes()
        let perUser = Double(full - before) / Double(users - 1000)
        print("figure: \(users) users, \(Int(perUser)) bytes of resident memory each, \(full >> 20) MB in all")
        #expect(perUser < 2048)
        meet(users..<(users + 100_000))
        let after = try Self.residentBytes()
        print("figure: 100000 further users add \((after - full) / 100_000) bytes each")
        #expect(after - full < 100_000 * 64)
        #expect(predictor.core.users.count == users)
    }

    @Test(
        "predict and learn a recorded data set on one core",
        .enabled(if: recordedData != nil, "SMIRUN_MOBILITY_DATA is not set")
    )
    func recordsPerSecond() throws {
        let set = try MobilityCommands.load(directory: recordedData ?? "")
        for leads in [[5.0], [5.0, 10.0]] {
            let predictor = Predictor(map: set.map)
            let start = Self.processorSeconds()
            for record in set.records {
                if record.kind.isAssociation { _ = predictor.predict(record, leads: leads) }
                predictor.learn(record)
            }
            let seconds = Self.processorSeconds() - start
            let rate = Int(Double(set.records.count) / seconds)
            print(
                "figure: \(set.name), \(leads.count) lead time(s): \(set.records.count) records, \(rate) per processor second"
            )
        }
    }

    private static func residentBytes() throws -> Int {
        let statm = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
        return try #require(Int(statm.split(separator: " ")[1])) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }

    /// Time that this thread has run, whatever else the machine does.
    private static func processorSeconds() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }
}

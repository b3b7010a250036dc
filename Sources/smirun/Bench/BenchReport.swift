import Foundation
import Orchestrator

/// What one benchmark found.
struct BenchReport: Encodable {
    /// One figure of one program.
    struct Row: Encodable {
        let subject: String
        let figure: String
        let unit: String
        var samples = Samples()
    }

    /// How two medians compare.
    struct Ratio: Encodable {
        let what: String
        let ratio: Double
    }

    let bench: String
    let settings: [String: String]
    private let machine = Machine()
    private(set) var rows: [Row] = []
    private(set) var ratios: [Ratio] = []
    /// What must be known to read the figures.
    private(set) var notes: [String] = []

    init(_ bench: String, settings: [String: String] = [:]) {
        self.bench = bench
        self.settings = settings
    }

    /// Adds a measured value; nil, where it could not be measured, makes the row without a value.
    mutating func add(_ subject: String, _ figure: String, _ value: Double?, unit: String = "ms") {
        if let index = rows.firstIndex(where: { $0.subject == subject && $0.figure == figure }) {
            rows[index].samples.add(value)
        } else {
            rows.append(Row(subject: subject, figure: figure, unit: unit, samples: Samples(value.map { [$0] } ?? [])))
        }
    }

    /// Compares the medians of two rows, each named by subject and figure.
    mutating func compare(_ left: (String, String), with right: (String, String)) {
        guard let above = median(left), let below = median(right), below != 0 else { return }
        ratios.append(Ratio(what: "\(left.0) \(left.1) / \(right.0) \(right.1)", ratio: above / below))
    }

    mutating func note(_ text: String) {
        notes.append(text)
    }

    private func median(_ name: (subject: String, figure: String)) -> Double? {
        rows.first { $0.subject == name.subject && $0.figure == name.figure }?.samples.median
    }

    /// Prints it for people.
    func printTables() {
        let given = settings.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }
        print(([bench] + given + machine.words).joined(separator: ", "))
        print("")
        printTable(
            ["PROGRAM", "FIGURE", "UNIT", "RUNS", "MEDIAN", "P99", "MIN", "MAX"],
            rows.map { row in
                let figures = [row.samples.median, row.samples.p99, row.samples.least, row.samples.most]
                return [row.subject, row.figure, row.unit, "\(row.samples.values.count)"] + figures.map(Self.format)
            }
        )
        if !ratios.isEmpty { print("") }
        for ratio in ratios { print("\(ratio.what): \(String(format: "%.3f", ratio.ratio))") }
        for note in notes { print("note: \(note)") }
    }

    private static func format(_ value: Double?) -> String {
        value.map { String(format: abs($0) < 1000 ? "%.2f" : "%.0f", $0) } ?? "-"
    }
}

extension BenchReport {
    /// The machine that the figures were seen on.
    struct Machine: Encodable {
        let kernel: String
        let processors: Int
        /// Load average of the last minute when the benchmark began.
        let load: Double
        /// `debug` or `release`.
        let build: String

        init() {
            kernel =
                (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8))?
                .trimmingCharacters(in: .whitespacesAndNewlines) ?? "unknown"
            processors = ProcessInfo.processInfo.activeProcessorCount
            var average = 0.0
            load = getloadavg(&average, 1) == 1 ? average : 0
            #if DEBUG
            build = "debug"
            #else
            build = "release"
            #endif
        }

        var words: [String] {
            ["\(build) build", "\(processors) processors", "kernel \(kernel)", "load \(String(format: "%.2f", load))"]
        }
    }
}

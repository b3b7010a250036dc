import ArgumentParser
import Foundation

/// How a listing command prints.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case table
    case json
    case wide
}

/// `-o` of the listing commands.
struct OutputOptions: ParsableArguments {
    @Option(name: [.customShort("o"), .customLong("output")], help: "How to print: table, json or wide.")
    var format: OutputFormat = .table
}

/// Prints a value as the contract's JSON, one line.
func printJSON<Value: Encodable>(_ value: Value) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var data = try encoder.encode(value)
    data.append(10)
    FileHandle.standardOutput.write(data)
}

/// Prints rows in columns as wide as their widest cell.
func printTable(_ header: [String], _ rows: [[String]]) {
    let all = [header] + rows
    let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
    for row in all {
        let cells = row.enumerated().map { index, cell in
            index == row.count - 1 ? cell : cell.padding(toLength: widths[index], withPad: " ", startingAt: 0)
        }
        print(cells.joined(separator: "  "))
    }
}

/// A number of bytes for people: `64.0M`.
func formatBytes(_ bytes: Int64) -> String {
    let units = ["", "K", "M", "G", "T"]
    var value = Double(bytes)
    var unit = 0
    while value >= 1024, unit < units.count - 1 {
        value /= 1024
        unit += 1
    }
    return unit == 0 ? "\(bytes)" : String(format: "%.1f%@", value, units[unit])
}

/// A number of milliseconds for people, `-` where it was not measured.
func formatMs(_ value: Double?) -> String {
    value.map { String(format: "%.1f", $0) } ?? "-"
}

/// Reads sizes such as `256M`, `1G` or `4096`.
struct ByteCount: ExpressibleByArgument {
    let bytes: Int64

    init(bytes: Int64) {
        self.bytes = bytes
    }

    init?(argument: String) {
        let units: [Character: Int64] = ["k": 1 << 10, "m": 1 << 20, "g": 1 << 30]
        var digits = argument.lowercased()
        if digits.hasSuffix("b") { digits.removeLast() }
        if digits.hasSuffix("i") { digits.removeLast() }
        var factor: Int64 = 1
        if let last = digits.last, let unit = units[last] {
            factor = unit
            digits.removeLast()
        }
        guard let number = Int64(digits), number > 0 else { return nil }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
        guard !overflow else { return nil }
        self.bytes = bytes
    }

    var defaultValueDescription: String { formatBytes(bytes) }
}

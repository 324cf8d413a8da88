// SwiftUI.swift beside it has the one type that is used.
